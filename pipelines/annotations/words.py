"""From text to words: normalised, cut into segments, and with one key for all the forms of a word.

Normalisation: Unicode NFKC, casefolding, one kind of apostrophe, no English possessive, hyphens and underscores as
spaces. A segment is what stands between commas, sentence marks and line breaks; no term reaches over its end.

In scripts that do not put spaces between words (Chinese, Japanese, Thai, Lao, Khmer, Burmese) each character with its
marks counts as a word, so that a sliding window finds terms at every place of a run.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache, lru_cache
from itertools import pairwise

from simplemma import Lemmatizer
from simplemma.strategies import DefaultStrategy
from simplemma.strategies.dictionaries import StreamDictionaryFactory
from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

MAX_WORDS = 6  # of a term
MAX_CHARACTERS = 12  # of a term in a script without spaces, where a word has about two

# Script_Extensions of the Unicode scripts that are written without spaces.
_UNSPACED = (
    "\u0e01-\u0e4f\u0e80-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3021-\u3029\u3041-\u309f\u30a0-\u30ff"
    "\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
_APOSTROPHES = str.maketrans(dict.fromkeys("’‘ʼ‛`´＇ꞌ", "'") | dict.fromkeys("-‐‑‒_", " "))
_POSSESSIVE = re.compile(r"(?<=\w)'s\b")
_BREAK = re.compile(r"[,;:|/•·\n\r\t!?。、，；：！？؛،।]+|\.(?=\s|$)|\s[–—/-]\s")
_IDENTIFIER = re.compile(r"(?=.*[^\W\d_])(?:.*\d){3}")  # img20140312
_ADDRESS = re.compile(r"0x[0-9a-f]+")  # in memory: what a program prints for want of a word, as in `HASH(0x8589f20)`
# Articles, prepositions and conjunctions: closed classes of words, which name nothing that a picture shows.
_FUNCTION_WORDS = {
    language: frozenset(words.split())
    for language, words in {
        "de": "der die das den dem des ein eine einen einem einer eines und oder mit ohne von vom zu zum zur im in am "
        "an auf für nach bei kein keine",
        "en": "a an the and or but of in on at to by for from with without into onto as is are be this that it its",
        "es": "el la los las un una unos unas y o con sin de del al a por para en",
        "fr": "le la les un une des du de et ou à au aux avec sans dans sur pour par en vers d'un d'une",
        "it": "il lo la gli le i un uno una e ed o di da dei del della delle degli in nel nella sul sulla con senza "
        "per a",
        "nl": "de het een en of van voor met op aan in bij te",
        "pl": "w z na do od i lub oraz ze we",
        "pt": "o a os as um uma uns umas e ou de do da dos das no na nos nas com sem ao à por para em",
        "ru": "в на с и из у к по за от для или",
    }.items()
}
_CAPITAL_NOUNS = {"de", "lb"}  # their word lists tell `Häuser` (houses) from `häuser` (of `hausen`) by the capital
_FORM_OF_ITS_OWN = {"en": re.compile(r"(?:ing|ed)$")}


def normalise(text: str) -> str:
    """The text with one spelling of what may be spelt in several ways; see the head of this file."""
    text = unicodedata.normalize("NFKC", text).casefold()
    return _POSSESSIVE.sub("", unicodedata.normalize("NFKC", text).translate(_APOSTROPHES))


def segment(text: str) -> list[tuple[str, ...]]:
    """Words of each segment of a raw text, normalised; segments without words or of a machine are left out."""
    # A break is looked for before hyphens turn into spaces: ` - ` separates, `t-shirt` does not.
    parts = (_word_pattern().findall(normalise(part)) for part in _BREAK.split(text))
    return [tuple(words) for words in parts if words and not any(map(_ADDRESS.fullmatch, words))]


def join(words: tuple[str, ...]) -> str:
    """The term as it is written: no space between two characters of an unspaced script."""
    pieces = [words[0]]
    for before, word in pairwise(words):
        pieces.append(word if is_unspaced(before) and is_unspaced(word) else f" {word}")
    return "".join(pieces)


def split_term(term: str) -> tuple[str, ...]:
    """Words of one term, which may come from a file that people edit; empty if there are none."""
    return tuple(_word_pattern().findall(normalise(term)))


def fits(words: tuple[str, ...], language: str) -> bool:
    """Whether a term may have these words: not too many, not only digits, not an identifier, not a single letter,
    not only words that hold others together.
    """
    limit = MAX_CHARACTERS if all(map(is_unspaced, words)) else MAX_WORDS
    if not 0 < len(words) <= limit or any(_IDENTIFIER.match(word) for word in words):
        return False
    if _FUNCTION_WORDS.get(language, frozenset()).issuperset(words):
        return False
    written = join(words)
    return not written.replace(" ", "").isdecimal() and (len(written) > 1 or is_unspaced(written))


def is_unspaced(word: str) -> bool:
    """Whether the word is a character of a script that puts no spaces between words."""
    return bool(_unspaced_pattern().match(word))


def find_key(words: tuple[str, ...], language: str) -> tuple[str, ...]:
    """What all forms of a term have in common: the lemma of each word, e.g. of `Hot dogs` `("hot", "dog")`."""
    return tuple(_find_lemma(word, language) for word in words)


@lru_cache(maxsize=1 << 18)
def _find_lemma(word: str, language: str) -> str:
    """Lemma by simplemma's word lists; the word itself in a language that they do not have.

    English participles stay as they are: `painting` and `building` are things, not forms of `paint` and `build`.
    """
    own = _FORM_OF_ITS_OWN.get(language)
    if language not in SUPPORTED_LANGUAGES or len(word) < 3 or (own is not None and own.search(word)):
        return word
    lemmatizer = _load_lemmatizer()
    lemma = lemmatizer.lemmatize(word, lang=language)
    if language in _CAPITAL_NOUNS and lemma != word:
        lemma = lemmatizer.lemmatize(word.capitalize(), lang=language)
    return lemma.casefold()


@cache
def _load_lemmatizer() -> Lemmatizer:
    """Word lists are read when their language is first met, and kept: texts of many languages come mixed.

    As streams they take a seventh of the memory of tables, and ten times the time, which a cache of words hides.
    """
    factory = StreamDictionaryFactory(cache_max_size=len(SUPPORTED_LANGUAGES))
    return Lemmatizer(lemmatization_strategy=DefaultStrategy(dictionary_factory=factory))


@cache
def _word_pattern() -> re.Pattern[str]:
    """A character of an unspaced script with its marks, or letters, digits and marks with apostrophes inside.

    Marks are listed because `\\w` leaves them out, and Hindi or Thai words would fall apart at every vowel sign.
    """
    marks = "".join(f"{chr(first)}-{chr(last)}" for first, last in _mark_ranges())
    letter = rf"(?:(?![{_UNSPACED}])[^\W_]|[{marks}])"
    return re.compile(rf"[{_UNSPACED}][{marks}]*|{letter}+(?:'{letter}+)*")


@cache
def _unspaced_pattern() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]")


@cache
def _mark_ranges() -> tuple[tuple[int, int], ...]:
    """First and last code point of each run of combining marks, in the planes that have scripts."""
    ranges: list[tuple[int, int]] = []
    for point in range(0x300, 0x1F000):
        if unicodedata.category(chr(point)).startswith("M"):
            if ranges and ranges[-1][1] == point - 1:
                ranges[-1] = (ranges[-1][0], point)
            else:
                ranges.append((point, point))
    return tuple(ranges)
