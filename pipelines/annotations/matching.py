"""Where the terms of a dictionary stand in a text: all 1- to 6-grams, by a trie over the keys of words.

A walk starts at every word and goes on while some term does, so it costs the length of the longest beginning of a term
there and not the number of terms. A term is found in all its forms, since the trie holds keys (see `words.find_key`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping

from pipelines.annotations.words import find_key, segment

UNKNOWN = "und"  # ISO 639-2 for a language that nobody could tell

_END = ""  # key of the term's number in a node; no word is empty


@dataclasses.dataclass(frozen=True, slots=True)
class Match:
    """One place of a term in a text.

    Attributes:
        term: its number in the dictionary.
        start: words of the text before it.
        words: its length.
        whole: it is all of a segment, e.g. one of several tags.
        nested: it stands within a longer match.
    """

    term: int
    start: int
    words: int
    whole: bool
    nested: bool


class Matcher:
    """The terms of all languages, each language in a trie of its own."""

    def __init__(self, terms: Iterable[tuple[int, str, tuple[str, ...]]], shares: Mapping[int, float]) -> None:
        """
        Args:
            terms: number, language and key of each term.
            shares: of a term, the share of its language's documents that have it: which of several languages an
                ambiguous word of a text in an unknown language belongs to.
        """
        self._shares = shares
        self._roots: dict[str, dict[str, object]] = {}
        for term, language, key in terms:
            node = self._roots.setdefault(language, {})
            for word in key:
                node = node.setdefault(word, {})  # type: ignore[assignment]
            node[_END] = term

    def match(self, text: str, language: str) -> list[Match]:
        """All places of all terms in a raw text; see `match_segments`."""
        return self.match_segments(segment(text), language)

    def match_segments(self, segments: list[tuple[str, ...]], language: str) -> list[Match]:
        """All places of all terms, in the order of the text, shorter first from the same word.

        A language that the dictionary lacks gives no match. In a text of `UNKNOWN` language the terms of all languages
        are looked for; where several have one at the same words, it is the one in whose language the term is commonest.
        """
        if language != UNKNOWN:
            root = self._roots.get(language)
            return [] if root is None else _mark_nested(list(_walk(segments, language, root)))
        best: dict[tuple[int, int], Match] = {}
        for other, root in self._roots.items():
            for match in _walk(segments, other, root):
                held = best.get((match.start, match.words))
                if held is None or self._shares[match.term] > self._shares[held.term]:
                    best[match.start, match.words] = match
        return _mark_nested([best[place] for place in sorted(best)])


def _walk(segments: list[tuple[str, ...]], language: str, root: dict[str, object]) -> Iterator[Match]:
    before = 0
    for words in segments:
        key = find_key(words, language)
        for start in range(len(key)):
            node = root
            for end in range(start, len(key)):
                found = node.get(key[end])
                if found is None:
                    break
                node = found  # type: ignore[assignment]
                if _END in node:
                    length = end + 1 - start
                    yield Match(node[_END], before + start, length, length == len(key), nested=False)  # type: ignore[arg-type]
        before += len(words)


def _mark_nested(matches: list[Match]) -> list[Match]:
    """The same with `nested` set; `matches` are sorted by start, then length."""
    marked: list[Match] = []
    reach = 0  # where the matches end that begin before this start
    for position, match in enumerate(matches):
        end = match.start + match.words
        longer_here = position + 1 < len(matches) and matches[position + 1].start == match.start
        marked.append(dataclasses.replace(match, nested=True) if end <= reach or longer_here else match)
        if not longer_here:
            reach = max(reach, end)
    return marked
