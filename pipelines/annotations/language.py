"""Which language a text is in: what its source declares, else a guess, else `und`.

The guess is py3langid's, among the languages that matter; below `MIN_CONFIDENCE` it counts as none, and the text is
matched against all languages' terms, which loses less than the terms of the wrong one. Measured on the names (one to
five words) and keyword lists of emoji in 20 languages, of which it had to choose one: right in 81 % of the names and
95 % of the lists; at this confidence it answers for 62 % and 83 %, and is right in 98 % and 99 % of those. Lingua, the
other candidate, was right in 85 % and 97.5 %, answered for 66 % and 87 % at the same precision, took ten times as long
and twenty times the disk. `python -m pipelines.annotations languages TEXTS` measures ours on a table of your own.
"""

from __future__ import annotations

import copy
import re
from collections import Counter
from collections.abc import Iterable
from functools import cache, lru_cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

from bowerbird.errors import ArgumentInvalid
from pipelines.annotations.matching import UNKNOWN
from pipelines.annotations.tables import TextRow

MIN_CONFIDENCE = 0.7
_CODE = re.compile(r"([A-Za-z]{2,3})(?:[-_][A-Za-z0-9]+)*")
_SAME = {"no": "nb"}
_HEAD_CHARACTERS = 400  # of a long text are enough to tell its language


def declared_language(language: str, field: str) -> str:
    """ISO 639 code that the row or, after its colon, the field declares: `pt-BR` -> `pt`; empty if neither does."""
    for declared in (language, field.partition(":")[2]):
        found = _CODE.fullmatch(declared.strip())
        if found and found[1].lower() != UNKNOWN:
            return _SAME.get(found[1].lower(), found[1].lower())
    return ""


class LanguageDetector:
    """Tells the language of texts out of a few; without languages, or with one that it does not know, it says so."""

    def __init__(self, languages: Iterable[str], *, min_confidence: float = MIN_CONFIDENCE) -> None:
        """
        Args:
            languages: ISO 639-1 codes to choose from.
            min_confidence: probability in [0, 1] below which the language counts as unknown.
        Raises:
            ArgumentInvalid: a code is not known to the detector, or there is none.
        """
        self.languages = tuple(sorted(set(languages)))
        if not self.languages:
            raise ArgumentInvalid("expected languages to choose from, got none; name some with --languages, e.g. en,de")
        identifier = copy.copy(_load_identifier())
        identifier.min_confidence = min_confidence
        if unknown := sorted(set(self.languages) - _list_known()):
            known = ", ".join(sorted(_list_known()))
            raise ArgumentInvalid(f"cannot detect the languages {', '.join(unknown)}; known: {known}")
        identifier.set_languages(self.languages)
        self._identifier = identifier
        self._guess = lru_cache(maxsize=1 << 16)(self._detect)

    @staticmethod
    def keep_known(languages: Iterable[str]) -> list[str]:
        """Those of the languages that a guess can be, sorted."""
        return sorted(set(languages) & _list_known())

    def resolve(self, text: str, language: str, field: str) -> str:
        """ISO 639 code of the text: the declared one if any, else the guess, else `UNKNOWN`."""
        return declared_language(language, field) or self.detect(text)

    def detect(self, text: str) -> str:
        """ISO 639-1 code, or `UNKNOWN`. With one language to choose from it is that one, if the text has letters."""
        if not any(map(str.isalpha, text)):
            return UNKNOWN
        return self._guess(text[:_HEAD_CHARACTERS])

    def _detect(self, text: str) -> str:
        language, _ = self._identifier.classify(text)
        return str(language)


@cache
def _load_identifier() -> LanguageIdentifier:
    """The model for all its languages; to be copied before it is changed."""
    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _list_known() -> frozenset[str]:
    return frozenset(_load_identifier().labels)


def measure_detection(rows: Iterable[TextRow], min_confidence: float = MIN_CONFIDENCE) -> str:
    """A table for people: of the texts that declare a language, how many the guess gets right, wrong and leaves open.

    Args:
        rows: texts; each distinct one counts once, those without a declared language not at all.
        min_confidence: see `LanguageDetector`.
    """
    declared = {(row.text, declared_language(row.language, row.field)) for row in rows}
    known = LanguageDetector.keep_known(language for _, language in declared)
    detector = LanguageDetector(known, min_confidence=min_confidence)
    results: dict[str, Counter[str]] = {}
    for text, language in sorted(declared):
        if language in known:
            guess = detector.detect(text)
            outcome = "right" if guess == language else "open" if guess == UNKNOWN else "wrong"
            results.setdefault(language, Counter())[outcome] += 1
    total = sum(results.values(), Counter[str]())
    lines = [f"{'language':8} {'texts':>8} {'right':>7} {'wrong':>7} {'open':>7}"]
    for language, outcomes in [*sorted(results.items()), ("all", total)]:
        shares = [f"{outcomes[name] / max(1, outcomes.total()):7.1%}" for name in ("right", "wrong", "open")]
        lines.append(f"{language:8} {outcomes.total():8,} {' '.join(shares)}")
    return "\n".join(lines)
