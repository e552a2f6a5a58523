import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow")

from bowerbird.errors import ArgumentInvalid
from pipelines.clusters import Clusters, ClusterSettings, cluster_labels, read_clusters, write_clusters
from pipelines.clusters import __main__ as command
from pipelines.clusters.grouping import FloatArray

MEANINGS = {"apple": 0, "pear": 0, "plum": 0, "horse": 1, "pony": 1, "mare": 1}
LABELS = [["apple"]] * 6 + [["pear", "apple"], ["plum"], ["horse", "horse", " "], ["pony", "horse"], ["mare"], []]
SETTINGS = ClusterSettings(share=0.4, min_pictures=3, max_pictures=100)


def encode(texts: Sequence[str]) -> FloatArray:
    """Vectors near one direction for fruit and near another for horses, a little apart from each other."""
    vectors = np.zeros((len(texts), 4), np.float32)
    for row, text in enumerate(texts):
        vectors[row, MEANINGS[text]] = 1.0
        vectors[row, 2] = 0.1 * len(text)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)


def cluster(labels: Sequence[Sequence[str]] = LABELS, sha256: str = "a", **changes: Any) -> Clusters:
    return cluster_labels(labels, encode, dataclasses.replace(SETTINGS, **changes), encoder_sha256=sha256)


def test_labels_that_mean_the_same_share_a_cluster_with_a_name() -> None:
    """Clusters are called after their most frequent label; a label twice on a picture counts once."""
    clusters = cluster()
    assert clusters.cluster_of == {
        "apple": "apple",
        "horse": "horse",
        "mare": "horse",
        "pear": "apple",
        "plum": "apple",
        "pony": "horse",
    }
    assert clusters.pictures["horse"] == 2
    assert clusters.sizes == {"apple": 8, "horse": 3}
    assert (clusters.metadata["labels"], clusters.metadata["clusters"]) == (6, 2)


def test_map_gives_each_cluster_once() -> None:
    """The labels of a picture become clusters; what was never clustered has none."""
    assert cluster().map(["pony", "plum", "mare", "unheard"]) == ["horse", "apple"]


def test_version_names_everything_that_clusters_depend_on() -> None:
    """The same inputs have the same version and clusters; other pictures, encoder or settings have another."""
    first = cluster()
    assert cluster() == first
    others = [
        cluster([*LABELS[:-1], ["mare"]]),
        cluster(sha256="b"),
        cluster(share=0.5),
        cluster(min_pictures=2),
        cluster(max_pictures=99),
        cluster(seed=1),
        cluster(control="noise"),
        cluster(control="noise", noise=2.0),
        cluster(control="random-merge"),
    ]
    assert len({first.metadata["version"], *(other.metadata["version"] for other in others)}) == 10


def test_random_merge_has_clusters_of_the_same_sizes() -> None:
    """The control has as many labels in each cluster, and mixes what the clustering kept apart."""
    labels = [[label] for label in MEANINGS for _ in range(4)]
    sizes = [Counter(cluster(labels, control=control).cluster_of.values()) for control in ("none", "random-merge")]
    assert sorted(sizes[0].values()) == sorted(sizes[1].values())
    mixed = {
        len({MEANINGS[label] for label, name in clusters.cluster_of.items() if name == chosen})
        for seed in range(3)
        for clusters in [cluster(labels, control="random-merge", seed=seed)]
        for chosen in set(clusters.cluster_of.values())
    }
    assert 2 in mixed


def test_no_labels_are_refused() -> None:
    """A table of pictures without labels says so instead of making an empty file."""
    with pytest.raises(ArgumentInvalid, match="expected pictures with labels"):
        cluster([[], [" "]])


@pytest.mark.parametrize(
    "changes", [{"share": 0.0}, {"share": 1.5}, {"min_pictures": 0}, {"max_pictures": 2}, {"noise": -1.0}]
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    """Each setting has its bounds."""
    with pytest.raises(ArgumentInvalid, match=next(iter(changes))):
        dataclasses.replace(SETTINGS, **changes)


def test_clusters_come_back_as_written(tmp_path: Path) -> None:
    """Labels, sizes, version and settings survive; the same clusters are the same bytes."""
    clusters = cluster()
    first = write_clusters(tmp_path / "a.parquet", clusters)
    assert read_clusters(first) == clusters
    assert first.read_bytes() == write_clusters(tmp_path / "b.parquet", cluster()).read_bytes()


def test_read_clusters_refuses_another_table(tmp_path: Path) -> None:
    """A missing file, a file of another kind and a table of another kind are refused by name."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    (tmp_path / "text.parquet").write_text("no")
    pq.write_table(pa.table({"label": ["a"]}), tmp_path / "other.parquet")
    for name in ("nothing.parquet", "text.parquet", "other.parquet"):
        with pytest.raises(ArgumentInvalid, match=name):
            read_clusters(tmp_path / name)


class Encoder:
    sha256 = "fake"

    def encode(self, texts: Sequence[str]) -> FloatArray:
        return encode(texts)


@pytest.mark.parametrize(
    ("name", "content", "columns"),
    [
        ("rows.csv", "picture,term\na,apple\na,pear\nb,apple\nc,horse\nd,pony\ne,\n", []),
        (
            "lists.jsonl",
            """{"path": "a", "tags": ["apple", "pear"]}
{"path": "b", "tags": ["apple"]}
{"path": "c", "tags": ["horse"]}
{"path": "d", "tags": ["pony"]}
{"path": "e", "tags": []}
""",
            ["--picture-column", "path", "--label-column", "tags"],
        ),
    ],
)
def test_command_reads_either_shape_of_table(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
    content: str,
    columns: list[str],
) -> None:
    """One row a label and one row a picture give the same clusters; the report shows them."""
    monkeypatch.setattr(command, "open_text_encoder", lambda cache: Encoder())
    (tmp_path / name).write_text(content)
    out = tmp_path / "clusters.parquet"
    arguments = [str(tmp_path / name), "--out", str(out), "--share", "0.5", "--min-pictures", "2", *columns]

    assert command.main(arguments) == 0
    clusters = read_clusters(out)
    assert clusters.cluster_of == {"apple": "apple", "horse": "horse", "pear": "apple", "pony": "horse"}
    printed = capsys.readouterr().out
    assert "4 labels in 2 clusters, 0 of them of one label" in printed
    assert "apple, pear" in printed
    assert clusters.metadata["version"] in printed


def test_command_refuses_with_a_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A table that is not there, a column that is not there, and settings out of range: status 1, nothing written."""
    (tmp_path / "t.csv").write_text("picture,term\na,apple\n")
    out = tmp_path / "clusters.parquet"
    for arguments, reason in (
        ([str(tmp_path / "no.csv")], "no.csv"),
        ([str(tmp_path / "t.csv"), "--label-column", "label"], "column `label`"),
        ([str(tmp_path / "t.csv"), "--share", "2"], "share"),
    ):
        assert command.main([*arguments, "--out", str(out)]) == 1
        assert reason in capsys.readouterr().err
    assert not out.exists()
