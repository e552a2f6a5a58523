"""Annotate pictures from noisy text: build a dictionary, train a scorer of relevance, apply both.

    python -m pipelines.annotations build TEXTS --dictionary terms.parquet
    python -m pipelines.annotations train TEXTS --dictionary terms.parquet --scorer scorer.json
    python -m pipelines.annotations apply TEXTS --dictionary terms.parquet --scorer scorer.json --out terms_of.parquet
    python -m pipelines.annotations convert terms.parquet terms.tsv     to edit a dictionary, and back
    python -m pipelines.annotations languages TEXTS                     how well languages are told apart

TEXTS is a table in .parquet, .csv or .jsonl with the columns picture, field, text and, if known, language. A field may
name its language after a colon: keywords:de. --pictures is a table of pictures: picture (or path) and any of category,
group (or concept), signature. Rows that cannot be used are counted, by reason, at the end.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from bowerbird.errors import BowerbirdError
from pipelines.annotations import applying, building, training
from pipelines.annotations.aggregate import AggregateOptions
from pipelines.annotations.dictionary import add_vectors, load_dictionary, save_dictionary
from pipelines.annotations.files import write_text
from pipelines.annotations.language import LanguageDetector, declared_language, measure_detection
from pipelines.annotations.scorer import ScorerOptions, load_scorer, save_scorer
from pipelines.annotations.tables import PictureRow, TextRow, read_pictures, read_texts
from pipelines.text_encoder import open_text_encoder

ENCODED_LANGUAGES = ("en",)  # what the text encoder was trained on


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 refused, with the reason on stderr."""
    options = _parse(arguments)
    counts: Counter[str] = Counter()
    try:
        options.run(options, counts)
    except BowerbirdError as error:
        print(f"error: {error.message}", file=sys.stderr)
        return 1
    finally:
        for name, count in sorted(counts.items()):
            print(f"{name}: {count:,}", file=sys.stderr)
    return 0


def _run_build(options: argparse.Namespace, counts: Counter[str]) -> None:
    pictures = _read_pictures(options, counts)
    cuts = building.BuildOptions(
        seed_fields=tuple(options.seed_fields.split(",")),
        min_documents=options.min_documents,
        min_association=options.min_association,
        max_terms=options.max_terms,
    )
    rows = (row for row in read_texts(options.texts, counts) if not training.is_label_field(row.field, options.without))
    dictionary = building.build_dictionary(rows, cuts, _make_detector(options), pictures, counts)
    if options.vectors:
        encoder = open_text_encoder(threads=options.threads)
        dictionary = add_vectors(dictionary, encoder.encode, encoder.sha256, ENCODED_LANGUAGES)
    save_dictionary(dictionary, options.dictionary)
    terms = Counter(term.language for term in dictionary.terms)
    listed = ", ".join(f"{language} {count:,}" for language, count in sorted(terms.items()))
    print(f"{len(dictionary):,} terms ({listed}) -> {options.dictionary}")


def _run_train(options: argparse.Namespace, counts: Counter[str]) -> None:
    dictionary = load_dictionary(options.dictionary)
    pictures = _read_pictures(options, counts)
    rows = _sample(options, counts)
    detector = _make_detector(options, dictionary.languages)
    judged, features, kinds = training.judge(rows, pictures, dictionary, detector, options.label_fields, counts)
    scorer = training.train(judged, features, kinds, ScorerOptions(rounds=options.rounds, seed=options.seed))
    report = training.examine(scorer, judged, counts)
    scorer = training.describe(scorer, report, options.label_fields, dictionary.sha256)
    save_scorer(scorer, options.scorer)
    print(training.format_report(report, scorer))
    if options.report:
        write_text(options.report, json.dumps(training.to_plain(report), indent=1) + "\n")
    print(f"-> {options.scorer}")


def _run_apply(options: argparse.Namespace, counts: Counter[str]) -> None:
    dictionary = load_dictionary(options.dictionary)
    scorer = load_scorer(options.scorer)
    if scorer.dictionary_sha256 != dictionary.sha256:
        print("the scorer was trained with another dictionary; scores may be less well calibrated", file=sys.stderr)
    wrote = applying.apply(
        options.texts,
        _read_pictures(options, counts),
        dictionary,
        scorer,
        _make_detector(options, dictionary.languages),
        options.out,
        applying.ApplyOptions(
            AggregateOptions(options.combination, options.min_score, options.max_terms),
            options.labels,
            tuple(options.terms_in),
        ),
        counts,
        progress=lambda done, total: print(f"part {done} of {total}", file=sys.stderr),
    )
    print(f"{'wrote' if wrote else 'up to date:'} {options.out}")


def _run_convert(options: argparse.Namespace, counts: Counter[str]) -> None:
    dictionary = load_dictionary(options.source)
    save_dictionary(dictionary, options.destination)
    counts["terms"] += len(dictionary)


def _run_languages(options: argparse.Namespace, counts: Counter[str]) -> None:
    rows = list(read_texts(options.texts, counts))
    print(measure_detection(rows, options.min_confidence))


def _make_detector(options: argparse.Namespace, fallback: Sequence[str] = ()) -> LanguageDetector:
    """Chooses among the languages that were asked for, else the dictionary's, else those that the texts declare."""
    if options.languages:
        return LanguageDetector(options.languages.split(","))
    known = fallback or {declared_language(row.language, row.field) for row in read_texts(options.texts, Counter())} - {
        ""
    }
    return LanguageDetector(LanguageDetector.keep_known(known) or ["en"])


def _read_pictures(options: argparse.Namespace, counts: Counter[str]) -> dict[str, PictureRow]:
    return read_pictures(options.pictures, counts) if options.pictures else {}


def _sample(options: argparse.Namespace, counts: Counter[str]) -> Iterator[TextRow]:
    """Texts of at most `--max-pictures` pictures, chosen by a hash, so that training fits into memory."""
    names = {training.place_group(row.picture) for row in read_texts(options.texts, Counter())}
    share = sorted(names)[options.max_pictures] if len(names) > options.max_pictures else 1.0
    return (row for row in read_texts(options.texts, counts) if training.place_group(row.picture) < share)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m pipelines.annotations",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_build(commands.add_parser("build", help="make a dictionary out of texts"))
    _add_train(commands.add_parser("train", help="train and examine a scorer"))
    _add_apply(commands.add_parser("apply", help="annotate the pictures of a table"))
    convert = commands.add_parser("convert", help="write a dictionary as .parquet or .tsv")
    convert.add_argument(
        "source", type=Path, help="dictionary in .parquet or .tsv: term, canonical, language, frequency"
    )
    convert.add_argument("destination", type=Path, help=".parquet or .tsv")
    convert.set_defaults(run=_run_convert)
    languages = commands.add_parser("languages", help="measure the guessing of languages on texts that declare theirs")
    languages.add_argument("texts", type=Path, metavar="TEXTS", help="table of texts")
    languages.add_argument("--min-confidence", type=float, default=0.7, help="default: %(default)s")
    languages.set_defaults(run=_run_languages)
    return parser.parse_args(arguments)


def _add_build(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument(
        "--seed-fields", default=",".join(building.SEED_FIELDS), help="fields with whole terms (%(default)s)"
    )
    parser.add_argument(
        "--without", type=_split, default=[], help="fields to leave out, e.g. the scorer's label fields"
    )
    parser.add_argument("--min-documents", type=int, default=2, help="texts that have a term (%(default)s)")
    parser.add_argument("--min-association", type=float, default=0.3, help="of the words of a phrase (%(default)s)")
    parser.add_argument("--max-terms", type=int, default=100_000, help="a language (%(default)s)")
    parser.add_argument("--vectors", action="store_true", help="embed English terms; fetches a text encoder of 104 MB")
    parser.add_argument("--threads", type=int, default=0, help="of the text encoder; 0: one a core (%(default)s)")
    parser.set_defaults(run=_run_build)


def _add_train(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument("--scorer", type=Path, required=True, help="scorer to write, .json")
    parser.add_argument("--report", type=Path, help="measures to write, .json")
    parser.add_argument(
        "--label-fields",
        type=_split,
        default=list(training.LABEL_FIELDS),
        help="fields whose words count as relevant and are hidden from the scorer (title*)",
    )
    parser.add_argument("--max-pictures", type=int, default=100_000, help="more are sampled (%(default)s)")
    parser.add_argument("--rounds", type=int, default=200, help="trees (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.set_defaults(run=_run_train)


def _add_apply(parser: argparse.ArgumentParser) -> None:
    _add_inputs(parser)
    parser.add_argument("--scorer", type=Path, required=True, help="scorer, .json")
    parser.add_argument("--out", type=Path, required=True, help="annotations to write, .parquet")
    parser.add_argument("--min-score", type=float, default=0.1, help="of an annotation (%(default)s)")
    parser.add_argument("--max-terms", type=int, default=20, help="of a picture (%(default)s)")
    parser.add_argument(
        "--combination", choices=("max", "mean", "noisy-or"), default="max", help="of copies (%(default)s)"
    )
    parser.add_argument("--terms-in", type=_split, default=[], help="languages whose terms are written, e.g. en (all)")
    parser.add_argument(
        "--labels",
        choices=("confirm", "hide"),
        default="confirm",
        help="terms in label fields: score 1, or not looked at",
    )
    parser.set_defaults(run=_run_apply)


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("texts", type=Path, metavar="TEXTS", help="table of texts")
    parser.add_argument("--pictures", type=Path, help="table of pictures")
    parser.add_argument("--dictionary", type=Path, required=True, help=".parquet or .tsv")
    parser.add_argument("--languages", help="to choose from for texts that declare none, e.g. en,de")


def _split(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    sys.exit(main())
