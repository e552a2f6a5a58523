"""A dictionary out of a corpus: which terms its own texts speak in.

Seeds are whole segments of fields in which people write terms and nothing else: tags, keywords, titles. Longer texts
add phrases of 2 to 6 words that stand together more often than chance has it and that begin and end with a seed.
Cuts: a term is in at least `min_documents` documents (a phrase out of longer texts in `min_phrase_documents`), in at
most `max_share` of its language's, and a phrase has at least `min_association`.

Association is normalised pointwise mutual information (Bouma 2009) of the two parts of a phrase at its weakest joint,
over documents. A document is one text of one field; among copies of a picture and pictures of one group the same text
counts once, since a copy is no new evidence.

Counting many long texts takes memory, so of `MAX_COUNTED` phrases those seen once are forgotten again (lossy counting,
Manku & Motwani 2002); the terms that matter are seen often.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.dictionary import Dictionary, Term
from pipelines.annotations.language import LanguageDetector
from pipelines.annotations.matching import UNKNOWN
from pipelines.annotations.tables import PictureRow, TextRow
from pipelines.annotations.words import find_key, fits, is_unspaced, join, segment

SEED_FIELDS = ("tags*", "keywords*", "title*")
MAX_COUNTED = 5_000_000
MAX_PHRASE = 6  # words
_SMALL_CORPUS = 50  # documents of a language below which no term is too common

Key = tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class BuildOptions:
    """Cuts of the dictionary; see the head of this file."""

    seed_fields: tuple[str, ...] = SEED_FIELDS
    min_documents: int = 2
    min_phrase_documents: int = 3
    min_association: float = 0.3
    max_share: float = 0.2
    max_terms: int = 100_000  # a language; the most frequent are kept

    def __post_init__(self) -> None:
        if min(self.min_documents, self.min_phrase_documents, self.max_terms) < 1 or not 0 < self.max_share <= 1:
            raise ArgumentInvalid(
                "expected min_documents, min_phrase_documents and max_terms of at least 1 and max_share in (0, 1], got "
                f"{self}"
            )


class DictionaryBuilder:
    """Counts the terms of texts, then makes the dictionary."""

    def __init__(self, options: BuildOptions, detector: LanguageDetector, pictures: Mapping[str, PictureRow]) -> None:
        """
        Args:
            options: the cuts.
            detector: tells the language of texts that declare none.
            pictures: by picture; their categories give each term its entropy.
        """
        self._options = options
        self._detector = detector
        self._pictures = pictures
        self._languages: dict[str, _LanguageCounts] = {}
        self._seen: set[bytes] = set()
        self.counts: Counter[str] = Counter()

    def add(self, row: TextRow) -> None:
        """Count the terms of one text. One in an unknown language adds nothing: its words would be no language's."""
        language = self._detector.resolve(row.text, row.language, row.field)
        if language == UNKNOWN:
            self.counts["unknown language"] += 1
            return
        picture = self._pictures.get(row.picture)
        category = picture.category if picture else ""
        of_whom = (picture.group or picture.signature if picture else "") or row.picture
        name = "\0".join((language, row.field, of_whom, row.text))
        digest = hashlib.blake2b(name.encode(), digest_size=8).digest()
        if digest in self._seen:
            self.counts["repeated"] += 1
            return
        self._seen.add(digest)
        is_seed = any(fnmatchcase(row.field, pattern) for pattern in self._options.seed_fields)
        self._languages.setdefault(language, _LanguageCounts(language)).add(row.text, category, is_seed=is_seed)

    def build(self) -> Dictionary:
        """The dictionary of all that was added, most frequent terms of each language first.

        Raises:
            ArgumentInvalid: no term passes the cuts.
        """
        terms = [
            term for language in sorted(self._languages) for term in self._languages[language].select(self._options)
        ]
        return Dictionary(terms, {name: counts.documents for name, counts in self._languages.items()})


class _LanguageCounts:
    """What is counted of one language."""

    def __init__(self, language: str) -> None:
        self.documents = 0
        self._language = language
        self._by_key: Counter[Key] = Counter()  # documents with the term anywhere
        self._seeds: Counter[Key] = Counter()  # documents with the term as a whole segment of a seed field
        self._spellings: dict[Key, Counter[str]] = {}
        self._categories: dict[Key, Counter[str]] = {}

    def add(self, text: str, category: str, *, is_seed: bool) -> None:
        self.documents += 1
        found: dict[Key, str] = {}
        seeds: set[Key] = set()
        for words in segment(text):
            key = find_key(words, self._language)
            if is_seed and fits(words, self._language):
                seeds.add(key)
                found.setdefault(key, join(words))
            for length in range(1, MAX_PHRASE + 1):
                for start in range(len(words) - length + 1):
                    part = words[start : start + length]
                    found.setdefault(key[start : start + length], join(part))
        self._seeds.update(seeds)
        self._by_key.update(found.keys())
        for key, spelling in found.items():
            self._spellings.setdefault(key, Counter())[spelling] += 1
            if category:
                self._categories.setdefault(key, Counter())[category] += 1
        if len(self._by_key) > MAX_COUNTED:
            self._forget()

    def select(self, options: BuildOptions) -> list[Term]:
        """Terms within the cuts, most frequent first."""
        most = options.max_share * self.documents if self.documents >= _SMALL_CORPUS else math.inf
        kept = [
            key
            for key, documents in self._by_key.items()
            if documents <= most
            and fits(key, self._language)
            and (self._is_seed(key, options) or self._is_phrase(key, options))
        ]
        kept.sort(key=lambda key: (-self._by_key[key], key))
        spread = max((len(categories) for categories in self._categories.values()), default=0)
        return [self._describe(key, spread) for key in kept[: options.max_terms]]

    def _is_seed(self, key: Key, options: BuildOptions) -> bool:
        return self._seeds[key] > 0 and self._by_key[key] >= options.min_documents

    def _is_phrase(self, key: Key, options: BuildOptions) -> bool:
        """Whether words that are no seed as a whole hold together, from one seed to another."""
        return (
            len(key) > 1
            and not any(map(is_unspaced, key))  # pieces of a run of characters are no phrases
            and self._by_key[key] >= options.min_phrase_documents
            and self._is_seed(key[:1], options)
            and self._is_seed(key[-1:], options)
            and self._measure_association(key) >= options.min_association
        )

    def _measure_association(self, key: Key) -> float:
        """Normalised pointwise mutual information at the weakest joint, in [-1, 1]."""
        joint = self._by_key[key] / self.documents
        if joint >= 1:
            return 1.0
        return min(
            math.log(joint * self.documents**2 / (self._by_key[key[:cut]] * self._by_key[key[cut:]])) / -math.log(joint)
            for cut in range(1, len(key))
        )

    def _describe(self, key: Key, spread: int) -> Term:
        spellings = self._spellings[key]
        canonical = min(spellings, key=lambda spelling: (-spellings[spelling], spelling))
        entropy = _measure_entropy(self._categories.get(key, Counter()), spread)
        return Term(canonical, self._language, dict(spellings), self._by_key[key], entropy)

    def _forget(self) -> None:
        """Drop phrases that were seen once and are no seed."""
        for key in [key for key, count in self._by_key.items() if count == 1 and key not in self._seeds]:
            del self._by_key[key], self._spellings[key]
            self._categories.pop(key, None)


def _measure_entropy(categories: Counter[str], spread: int) -> float:
    """Entropy over categories, of the most there could be, in [0, 1]; NaN without categories.

    Add-one smoothing over `spread` categories, so that a term seen once is not taken for a sure one.
    """
    if not categories or spread < 2:
        return math.nan
    total = categories.total() + spread
    shares = [(count + 1) / total for count in categories.values()] + [1 / total] * (spread - len(categories))
    return -sum(share * math.log(share) for share in shares) / math.log(spread)


def build_dictionary(
    rows: Iterable[TextRow],
    options: BuildOptions,
    detector: LanguageDetector,
    pictures: Mapping[str, PictureRow],
    counts: Counter[str],
) -> Dictionary:
    """The dictionary of a table of texts; `counts` grows by what was passed over."""
    builder = DictionaryBuilder(options, detector, pictures)
    for row in rows:
        builder.add(row)
    counts.update(builder.counts)
    return builder.build()
