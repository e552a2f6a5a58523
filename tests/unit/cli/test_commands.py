"""Every command that talks to services, against all services in this process."""

import hashlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from bowerbird.cli import main, outcome
from bowerbird.rpc.clients import ModelRef, RetrievalClient, connect
from bowerbird.testing import run_server
from services.retrieval.config import RetrievalConfig
from services.retrieval.engine import RetrievalEngine
from services.retrieval.server import build_services as build_retrieval
from tests.unit.cli.conftest import Run, Served, paint

Capture = pytest.CaptureFixture[str]


def read_json(capsys: Capture) -> dict[str, Any]:
    parsed = json.loads(capsys.readouterr().out)
    assert isinstance(parsed, dict)
    return parsed


@pytest.fixture
def indexed(run: Run, album: Path, capsys: Capture) -> Path:
    """The album, indexed."""
    assert run("index", album) == outcome.EXIT_OK
    capsys.readouterr()
    return album


def list_ids(run: Run, capsys: Capture, *options: str) -> list[str]:
    capsys.readouterr()
    assert run("items", "--limit", "0", "--json", *options) == outcome.EXIT_OK
    return [item["item_id"] for item in read_json(capsys)["items"]]


# ---- index


def test_index_writes_pictures_and_names_what_it_skipped(run: Run, album: Path, capsys: Capture) -> None:
    """All pictures of all folders are items; files that are none are listed with their reasons at the end."""
    assert run("index", album) == outcome.EXIT_OK
    text = capsys.readouterr().out
    assert "5 written, 0 unchanged, 2 skipped" in text
    assert "not a picture (1)" in text
    assert "notes.txt" in text
    assert "cannot be decoded (1)" in text
    assert "broken.png" in text
    assert list_ids(run, capsys) == ["cold/blue.png", "cold/navy.png", "two.png", "warm/orange.png", "warm/red.png"]


def test_index_again_embeds_nothing(run: Run, served: Served, indexed: Path, capsys: Capture) -> None:
    """What is there by content is not sent again."""
    before = served.embedder.embedded
    assert run("index", indexed, "--json") == outcome.EXIT_OK
    report = read_json(capsys)
    assert (report["written"], report["unchanged"]) == (0, 5)
    assert served.embedder.embedded == before


def test_changed_picture_replaces_its_item(run: Run, indexed: Path, capsys: Capture) -> None:
    """A file with new content keeps its id and gets the new vector."""
    paint(indexed / "warm/red.png", "white")
    assert run("index", indexed) == outcome.EXIT_OK
    assert "1 written, 4 unchanged" in capsys.readouterr().out
    assert run("search", paint(indexed / "white.png", "white"), "--top-k", "1", "--json") == outcome.EXIT_OK
    assert read_json(capsys)["hits"][0]["item_id"] == "warm/red.png"


def test_renamed_picture_is_new_and_prune_drops_the_old(run: Run, indexed: Path, capsys: Capture) -> None:
    """Without --prune the old item stays, with it the item of the missing file goes."""
    (indexed / "two.png").rename(indexed / "zwei.png")
    assert run("index", indexed) == outcome.EXIT_OK
    assert {"two.png", "zwei.png"} <= set(list_ids(run, capsys))
    assert run("index", indexed, "--prune") == outcome.EXIT_OK
    assert "1 items deleted" in capsys.readouterr().out
    assert "two.png" not in list_ids(run, capsys)


def test_moved_folder_keeps_its_items(run: Run, indexed: Path, capsys: Capture) -> None:
    """After the whole folder moved, its items are updated in place."""
    moved = indexed.rename(indexed.with_name("moved"))
    assert run("index", moved) == outcome.EXIT_OK
    assert "5 written" in capsys.readouterr().out
    assert len(list_ids(run, capsys)) == 5


def test_same_name_in_another_folder_is_not_overwritten(run: Run, indexed: Path, capsys: Capture) -> None:
    """Two folders with a picture of the same path are told apart, and --prefix makes room for both."""
    other = indexed.with_name("other")
    paint(other / "two.png", "black")
    assert run("index", other) == outcome.EXIT_FAILED
    assert "id taken by a picture of another folder" in capsys.readouterr().out
    assert run("index", other, "--prefix", "other/") == outcome.EXIT_OK
    assert {"two.png", "other/two.png"} <= set(list_ids(run, capsys))


def test_records_give_fields(run: Run, album: Path, capsys: Capture) -> None:
    """Fields of a pictures.jsonl can be filtered by; an edited field is written again."""
    record = {"path": "warm/red.png", "title": "Red", "year": 2021, "tags": ["a", "b"]}
    (album / "pictures.jsonl").write_text(json.dumps(record) + "\n")
    assert run("index", album) == outcome.EXIT_OK
    assert list_ids(run, capsys, "--filter", "year>2020 and tags='a, b'") == ["warm/red.png"]
    (album / "pictures.jsonl").write_text(json.dumps(record | {"year": 1999}) + "\n")
    assert run("index", album) == outcome.EXIT_OK
    assert list_ids(run, capsys, "--filter", "year>2020") == []


def test_full_queue_is_waited_for(run: Run, served: Served, album: Path, capsys: Capture) -> None:
    """Pictures that an overloaded server refused are sent again until they are in."""
    served.embedder.refuse_next = 4
    assert run("index", album) == outcome.EXIT_OK
    assert "5 written" in capsys.readouterr().out


def test_index_of_another_model_is_refused(run: Run, served: Served, album: Path, capsys: Capture) -> None:
    """Vectors of two models never meet in one index; the message says what to do."""
    with connect(served.target) as connection:
        client = RetrievalClient(connection)
        client.create_index("other", dimension=192, code_bits=64, model=ModelRef("shapes", "1"))
        client.create_index("small", dimension=64, code_bits=64)
    assert run("index", album, "--index", "other") == outcome.EXIT_FAILED
    assert "holds vectors of shapes 1, but the embedder runs colours" in capsys.readouterr().err
    assert run("index", album, "--index", "small") == outcome.EXIT_FAILED
    assert "64-d vectors" in capsys.readouterr().err


def test_all_skipped_files_go_to_a_file(run: Run, album: Path, tmp_path: Path, capsys: Capture) -> None:
    """--skipped lists every file with its reason, not only examples."""
    for number in range(20):
        (album / f"{number}.txt").write_text("x")
    assert run("index", album, "--skipped", tmp_path / "skipped.tsv") == outcome.EXIT_OK
    assert "more; --skipped FILE lists all" in capsys.readouterr().out
    lines = (tmp_path / "skipped.tsv").read_text().splitlines()
    assert len(lines) == 22
    assert all(line.split("\t")[1] for line in lines)


def test_nothing_to_index_fails(run: Run, tmp_path: Path, capsys: Capture) -> None:
    """A missing path and a folder without any picture end with code 1."""
    assert run("index", tmp_path / "nowhere") == outcome.EXIT_FAILED
    assert "no file or folder" in capsys.readouterr().err
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/a.txt").write_text("x")
    assert run("index", tmp_path / "texts") == outcome.EXIT_FAILED


# ---- search


def test_search_finds_the_nearest_first(run: Run, indexed: Path, capsys: Capture) -> None:
    """The picture itself comes first, and people see item, score, time and what to search by next."""
    assert run("search", indexed / "cold/blue.png") == outcome.EXIT_OK
    lines = capsys.readouterr().out.splitlines()
    assert "cold/blue.png" in lines[1]
    assert "1.000" in lines[1]
    assert any("corner" in line and "--region 0.000,0.000,0.500,0.500" in line for line in lines)


def test_region_is_searched_for_itself(run: Run, indexed: Path, capsys: Capture) -> None:
    """The red corner of a green picture finds red."""
    assert run("search", indexed / "two.png", "--region", "0,0,0.5,0.5", "--json") == outcome.EXIT_OK
    assert read_json(capsys)["hits"][0]["item_id"] == "warm/red.png"


def test_item_is_left_out_of_its_own_neighbours(run: Run, indexed: Path, capsys: Capture) -> None:
    """--item needs no file and never answers with the item itself."""
    assert run("search", "--item", "cold/blue.png", "--json") == outcome.EXIT_OK
    answer = read_json(capsys)
    assert answer["hits"][0]["item_id"] == "cold/navy.png"
    assert all(hit["item_id"] != "cold/blue.png" for hit in answer["hits"])


def test_filter_and_top_k_bound_the_answer(run: Run, indexed: Path, capsys: Capture) -> None:
    """Only matching items come back, as many as asked for."""
    path = indexed / "cold/blue.png"
    assert run("search", path, "--filter", "folder=warm", "--top-k", "1", "--exact", "--json") == outcome.EXIT_OK
    hits = read_json(capsys)["hits"]
    assert len(hits) == 1
    assert hits[0]["fields"]["folder"] == "warm"


def test_page_shows_query_and_results(run: Run, indexed: Path, tmp_path: Path, capsys: Capture) -> None:
    """--html writes one file with inlined pictures, the box of the region and the command that repeats it."""
    page = tmp_path / "out.html"
    assert run("search", indexed / "two.png", "--region", "0,0,0.5,0.5", "--html", page) == outcome.EXIT_OK
    text = page.read_text()
    assert text.count("data:image/webp;base64,") == 6
    assert "width:50.00%" in text
    assert "--region 0.000,0.000,0.500,0.500" in text
    assert str(page) in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["search"], "give a PICTURE"),
        (["search", "a.png", "--item", "b"], "not both"),
        (["search", "--item", "b", "--region", "0,0,1,1"], "part of a PICTURE"),
        (["search", "--item", "b", "--filter", "="], "cannot read"),
        (["items", "--limit", "-1"], "--limit"),
        (["delete"], "either IDs"),
    ],
)
def test_contradicting_options_are_usage_errors(run: Run, words: list[str], said: str, capsys: Capture) -> None:
    """Exit code 2, and a message that names the options."""
    assert run(*words) == outcome.EXIT_USAGE
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("region", ["0,0,1", "a,b,c,d", "0.5,0,0.2,1", "0,0,2,2", "nan,0,1,1"])
def test_bad_region_is_a_usage_error(run: Run, region: str, capsys: Capture) -> None:
    """A region that is no rectangle inside the picture never reaches the server."""
    with pytest.raises(SystemExit) as ended:
        run("search", "a.png", f"--region={region}")
    assert ended.value.code == outcome.EXIT_USAGE
    assert "region" in capsys.readouterr().err


def test_server_faults_carry_their_reason(run: Run, indexed: Path, capsys: Capture) -> None:
    """What the server refuses ends with code 1, its message and its reason."""
    assert run("search", indexed / "two.png", "--index", "nowhere") == outcome.EXIT_FAILED
    assert "INDEX_NOT_FOUND" in capsys.readouterr().err
    assert run("search", indexed / "notes.txt") == outcome.EXIT_FAILED
    assert "IMAGE_DECODE_FAILED" in capsys.readouterr().err
    assert run("search", indexed / "gone.png") == outcome.EXIT_FAILED
    assert "cannot read" in capsys.readouterr().err


# ---- detect, embed


def test_detect_lists_and_draws(run: Run, indexed: Path, tmp_path: Path, capsys: Capture) -> None:
    """Objects come with their regions; --draw writes the picture with the box in it."""
    drawn = tmp_path / "boxes.png"
    assert run("detect", indexed / "cold/blue.png", "--draw", drawn) == outcome.EXIT_OK
    assert "corner  0.900  0.000,0.000,0.500,0.500" in capsys.readouterr().out
    with Image.open(drawn) as picture:
        assert picture.size == (32, 32)
        assert picture.getpixel((0, 15)) != (0, 0, 255)
        assert picture.getpixel((25, 25)) == (0, 0, 255)
    assert run("detect", indexed / "cold/blue.png", "--json") == outcome.EXIT_OK
    answer = read_json(capsys)
    assert answer["detections"] == [{"label": "corner", "score": 0.9, "region": [0.0, 0.0, 0.5, 0.5]}]
    assert (answer["width"], answer["height"]) == (32, 32)


def test_drawing_to_an_unknown_format_fails_with_advice(
    run: Run, indexed: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A name that is no picture's is refused after all, with the names that work."""
    assert run("detect", indexed / "two.png", "--draw", tmp_path / "boxes.doc") == outcome.EXIT_FAILED
    assert ".png" in capsys.readouterr().err


def test_embedding_is_printed_and_saved(run: Run, indexed: Path, tmp_path: Path, capsys: Capture) -> None:
    """The saved array is the vector of the JSON, float32 and of unit length."""
    saved = tmp_path / "v.npy"
    assert run("embed", indexed / "two.png", "--out", saved, "--json") == outcome.EXIT_OK
    answer = read_json(capsys)
    vector = np.load(saved)
    assert vector.dtype == np.float32
    assert np.allclose(vector, answer["embedding"])
    assert np.linalg.norm(vector) == pytest.approx(1)
    assert len(bytes.fromhex(answer["code"])) == 8
    assert answer["models"] == [{"name": "colours", "version": "0123456789ab"}]
    assert run("embed", indexed / "two.png") == outcome.EXIT_OK
    assert "192 dimensions" in capsys.readouterr().out


def test_embedding_says_what_is_in_the_picture_when_asked(run: Run, indexed: Path, capsys: Capture) -> None:
    """Heads are named by options or by --head; labels come best first, and the vector as ever."""
    assert run("embed", indexed / "cold/navy.png", "--category", "--json") == outcome.EXIT_OK
    answer = read_json(capsys)
    assert [entry["label"] for entry in answer["labels"]["category"]] == ["dark", "light"]
    assert len(answer["embedding"]) == 192
    assert run("embed", indexed / "cold/navy.png", "--head", "category", "--top", "1") == outcome.EXIT_OK
    out = capsys.readouterr().out
    assert "category\n  dark" in out and "light" not in out
    assert run("embed", indexed / "cold/navy.png", "--category", "--min-score", "1") == outcome.EXIT_OK
    assert "nothing" in capsys.readouterr().out


def test_a_head_that_the_model_lacks_is_named(run: Run, indexed: Path, capsys: Capture) -> None:
    """The message lists what there is; a number out of range is wrong usage."""
    assert run("embed", indexed / "two.png", "--annotations") == outcome.EXIT_FAILED
    assert "gives no 'annotations'; its heads are category" in capsys.readouterr().err
    assert run("embed", indexed / "two.png", "--category", "--top", "-1") == outcome.EXIT_USAGE
    assert run("embed", indexed / "two.png", "--category", "--min-score", "nan") == outcome.EXIT_FAILED


# ---- items, delete, snapshots, status


def test_items_say_when_there_are_more(run: Run, indexed: Path, capsys: Capture) -> None:
    """A short list names the option that shows the rest; a full one does not."""
    assert run("items", "--limit", "2") == outcome.EXIT_OK
    assert "the first 2" in capsys.readouterr().out
    assert run("items", "--limit", "5", "--json") == outcome.EXIT_OK
    answer = read_json(capsys)
    assert len(answer["items"]) == 5
    assert answer["more"] is False


def test_delete_by_id_and_by_filter(run: Run, indexed: Path, capsys: Capture) -> None:
    """Ids that are not there do not count; a filter needs --yes where nobody can answer."""
    assert run("delete", "two.png", "gone.png") == outcome.EXIT_OK
    assert "deleted 1 of 2" in capsys.readouterr().out
    assert run("delete", "--filter", "folder=warm", "--yes") == outcome.EXIT_OK
    assert list_ids(run, capsys) == ["cold/blue.png", "cold/navy.png"]


def test_mass_delete_asks_first(run: Run, indexed: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a terminal nothing is deleted; on one, only `yes` deletes."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert run("delete", "--filter", "folder=warm") == outcome.EXIT_FAILED
    assert "delete 2 items" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    assert run("delete", "--whole-index") == outcome.EXIT_FAILED
    assert len(list_ids(run, capsys)) == 5
    monkeypatch.setattr(sys, "stdin", Terminal("yes\n"))
    assert run("delete", "--whole-index") == outcome.EXIT_OK
    assert run("items") == outcome.EXIT_FAILED
    assert "INDEX_NOT_FOUND" in capsys.readouterr().err


def test_snapshot_brings_deleted_items_back(run: Run, indexed: Path, capsys: Capture) -> None:
    """A snapshot is listed, restores beside the live index, and can be deleted."""
    assert run("snapshot", "--json") == outcome.EXIT_OK
    snapshot = read_json(capsys)["snapshot_id"]
    assert run("delete", "two.png") == outcome.EXIT_OK
    capsys.readouterr()
    assert run("restore", snapshot, "--index", "old") == outcome.EXIT_OK
    assert "restored 5 items" in capsys.readouterr().out
    assert "two.png" in list_ids(run, capsys, "--index", "old")
    assert run("snapshot", "--list") == outcome.EXIT_OK
    assert snapshot in capsys.readouterr().out
    assert run("snapshot", "--delete", snapshot) == outcome.EXIT_OK
    assert run("snapshot", "--list") == outcome.EXIT_OK
    assert "no snapshots" in capsys.readouterr().out


def test_restore_over_a_living_index_is_refused(run: Run, indexed: Path, capsys: Capture) -> None:
    """Restoring never replaces what is there."""
    assert run("snapshot", "--json") == outcome.EXIT_OK
    snapshot = read_json(capsys)["snapshot_id"]
    assert run("restore", snapshot, "--index", "default") == outcome.EXIT_FAILED
    assert "INDEX_EXISTS" in capsys.readouterr().err


def test_status_shows_services_models_and_items(run: Run, indexed: Path, capsys: Capture) -> None:
    """Everything is ready, and the index has its items."""
    assert run("status", "--json") == outcome.EXIT_OK
    report = read_json(capsys)
    assert report["ready"] is True
    assert set(report["services"].values()) == {True}
    assert {model["name"] for model in report["models"]} == {"colours", "corners"}
    assert report["models"][0]["heads"] == {"category": 2}
    assert [(index["name"], index["items"]) for index in report["indexes"]] == [("default", 5)]
    assert run("status") == outcome.EXIT_OK
    assert "192-d, 64 bits" in capsys.readouterr().out


# ---- eval


@pytest.fixture
def styles(tmp_path: Path) -> Path:
    """Twelve concepts, one hue each, drawn in three styles; one concept that a style lacks; some photographs."""
    root = tmp_path / "styles"
    records = []
    for style, size in (("noto", 10), ("twemoji", 14), ("openmoji", 20)):
        for concept in range(12 if style != "openmoji" else 11):
            name = f"{style}-{concept}.png"
            paint(root / name, f"hsl({30 * concept}, 100%, {40 + size}%)")
            records.append({"path": name, "style": style, "concept": f"c{concept}", "category": "x"})
    for number in range(12):
        name = f"photo-{number}.png"
        paint(root / name, f"hsl({(number % 2) * 180 + number}, 90%, 50%)")
        records.append({"path": name, "style": "photograph", "concept": name, "category": "ab"[number % 2]})
    (root / "pictures.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return root


def test_evaluation_measures_every_pair(run: Run, styles: Path, capsys: Capture) -> None:
    """All ordered pairs with their shared concepts, exact and binary, intervals, and the category of photographs."""
    words = ["eval", "retrieval", "--corpus", styles, "--styles", "noto,twemoji,openmoji", "--json"]
    assert run(*words) == outcome.EXIT_OK
    report = read_json(capsys)
    assert report["p_at_1"] == 1.0
    assert report["r_at_10"] == 1.0
    assert report["p_at_1_interval"] == [1.0, 1.0]
    assert report["binary"]["r_at_10_kept"] == 1.0
    pairs = {(pair["query_style"], pair["gallery_style"]): pair["concepts"] for pair in report["per_pair"]}
    assert pairs[("noto", "twemoji")] == pairs[("twemoji", "noto")] == 12
    assert pairs[("openmoji", "noto")] == 11
    assert len(pairs) == 6
    assert report["all_pairs"]["queries"] == 2 * 12 + 4 * 11
    (category,) = report["category"]
    assert category["style"] == "photograph"
    assert category["p_at_5"] == 1.0
    assert category["chance"] == 0.5


def test_evaluation_for_people_shows_the_same(run: Run, styles: Path, capsys: Capture) -> None:
    """The table names the headline, the pairs and the time."""
    assert run("eval", "retrieval", "--corpus", styles, "--styles", "noto,twemoji") == outcome.EXIT_OK
    text = capsys.readouterr().out
    assert "noto -> twemoji, 12 concepts" in text
    assert "binary + re-rank keeps 100.00%" in text


def test_evaluation_of_other_pictures_says_what_is_missing(run: Run, indexed: Path, capsys: Capture) -> None:
    """Pictures without styles cannot be evaluated, and the message names the option that helps."""
    assert run("eval", "retrieval") == outcome.EXIT_FAILED
    assert "--corpus DIR" in capsys.readouterr().err


# ---- without services


def test_unreachable_server_has_its_own_code(capsys: Capture, tmp_path: Path) -> None:
    """Exit code 3, the address, and the command that starts services."""
    picture = paint(tmp_path / "a.png", "red")
    for words in (["status"], ["items"], ["search", str(picture)], ["index", str(tmp_path)]):
        assert main(["--target", "127.0.0.1:1", *words]) == outcome.EXIT_UNREACHABLE
        text = capsys.readouterr().err
        assert "127.0.0.1:1" in text
        assert "bowerbird up" in text


def test_every_command_explains_itself(capsys: Capture) -> None:
    """--help of every command has examples and the connection options."""
    from bowerbird.cli.app import COMMANDS

    for command in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        text = capsys.readouterr().out
        assert f"bowerbird {command}" in text
        assert "examples:" in text
        assert "--target" in text


def test_unknown_command_is_a_usage_error(capsys: Capture) -> None:
    """A misspelt command lists those that exist."""
    with pytest.raises(SystemExit) as ended:
        main(["serach"])
    assert ended.value.code == outcome.EXIT_USAGE
    assert "search" in capsys.readouterr().err


def test_closed_pipe_is_no_error(run: Run, indexed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`bowerbird items | head -0` ends quietly."""
    with (tmp_path / "out").open("w") as sink:

        class Closed(io.StringIO):
            def write(self, _: str) -> int:
                raise BrokenPipeError

            def fileno(self) -> int:
                return sink.fileno()

        monkeypatch.setattr(sys, "stdout", Closed())
        assert run("items") == outcome.EXIT_OK


def test_copy_of_a_picture_is_an_item_of_its_own(run: Run, indexed: Path, capsys: Capture) -> None:
    """Two files with the same content are two items, found with the same score."""
    shutil.copy(indexed / "cold/blue.png", indexed / "copy.png")
    assert run("index", indexed) == outcome.EXIT_OK
    capsys.readouterr()
    assert run("search", indexed / "copy.png", "--top-k", "2", "--json") == outcome.EXIT_OK
    hits = read_json(capsys)["hits"]
    assert {hit["item_id"] for hit in hits} == {"cold/blue.png", "copy.png"}


def test_token_opens_what_is_closed(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a token the message names the option; with one, from option or variable, the command works."""
    digest = hashlib.sha256(b"secret").hexdigest()
    (tmp_path / "tokens.toml").write_text(f'[[tokens]]\nname = "me"\nsha256 = "{digest}"\nrole = "admin"\n')
    services = build_retrieval(RetrievalEngine(RetrievalConfig(data_dir=tmp_path / "store")))
    with run_server(services, auth_tokens_file=tmp_path / "tokens.toml") as (target, _):
        assert main(["snapshot", "--list", "--target", target]) == outcome.EXIT_FAILED
        assert "--token" in capsys.readouterr().err
        assert main(["snapshot", "--list", "--target", target, "--token", "secret"]) == outcome.EXIT_OK
        monkeypatch.setenv("BOWERBIRD_TOKEN", "secret")
        assert main(["snapshot", "--list", "--target", target]) == outcome.EXIT_OK
