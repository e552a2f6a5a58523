"""A new embedder under an index that is there: searches are refused, one command later they are answered."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from bowerbird.cli import outcome
from bowerbird.models import zoo
from tests.e2e.conftest import PICTURES
from tests.e2e.test_cli import Shell, make_corpus, shell  # noqa: F401 (a fixture)
from tests.tiny_zoo import write_tiny_embedder

pytestmark = pytest.mark.e2e


def write_config(folder: Path) -> Path:
    """Settings that serve a small model in place of the standard one, beside the detector of the zoo."""
    write_tiny_embedder(folder / "zoo")
    for file in zoo.find_zoo().glob("nanodet-g.*"):
        shutil.copy(file, folder / "zoo")
    config = folder / "tiny.toml"
    config.write_text(f'[models]\nzoo_dir = "{folder / "zoo"}"\n[embedder]\nmodel = "tiny"\n')
    return config


def test_a_new_model_takes_over_an_index(shell: Shell) -> None:  # noqa: F811
    """Index, serve another model, be refused, embed again, search, ask for annotations; fields and ids stay."""
    corpus = make_corpus(shell.folder / "corpus")
    query = PICTURES / "noto/cat-face.png"
    shell.run("up", "--port", "0", "--admin-port", "0")
    shell.run("index", corpus)
    before = shell.run_json("items", "--limit", "0")["items"]
    shell.run("down")
    shell.run("up", "--port", "0", "--admin-port", "0", "--config", write_config(shell.folder))

    assert "MODEL_INDEX_MISMATCH" in shell.run("search", query, code=outcome.EXIT_FAILED)
    assert "bowerbird reembed default" in shell.run("index", corpus, code=outcome.EXIT_FAILED)
    assert shell.run_json("reembed")["replaced"] is True

    assert shell.run_json("search", query)["hits"][0]["item_id"] == "noto/cat-face.png"
    assert shell.run_json("items", "--limit", "0")["items"] == before
    assert [index["model"] for index in shell.run_json("status")["indexes"]] == ["tiny"]
    said = shell.run_json("embed", query, "--annotations", "--attributes", "--min-score", "0")["labels"]
    assert list(said) == ["annotations", "drawn skin tone"] and len(said["annotations"]) == 10
    shell.run("down")
    shell.run("up", "--port", "0", "--admin-port", "0", "--config", shell.folder / "tiny.toml")
    assert shell.run_json("items", "--limit", "0")["items"] == before
