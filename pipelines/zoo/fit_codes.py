"""Learn the binary codes of the embedder: a projection of the embedding whose signs keep the neighbours.

Launch (writes into zoo/efficientnet-lite0.onnx and stamps its card):
    python -m pipelines.zoo.fit_codes --pictures DIR

DIR holds pictures and a `pictures.jsonl`, as the demo corpus does. Learned from open clip-art, cut-outs and photographs
only: the emoji that retrieval is evaluated on are never looked at.

Source: Gong & Lazebnik, Iterative Quantization, 2011: principal components, then the rotation that brings them closest
to their signs. Deviation: each component is first divided by the fourth root of its standard deviation. Left alone,
most bits go to the few strongest components; fully whitened, noise counts as much as signal.

Legend: N pictures, D = 1280 dimensions, B = 256 bits.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnx

from bowerbird.images import PictureCache
from bowerbird.models.settings import ModelsConfig
from pipelines.zoo.cards import stamp
from pipelines.zoo.efficientnet import CODE_BITS, write_projection
from pipelines.zoo.onnx_writer import save
from services.embedder.config import EmbedderConfig
from services.embedder.engine import EmbedderEngine, EmbedInput

FloatArray = npt.NDArray[np.float32]

STYLES = ("clipart", "cutout", "photograph")
ITERATIONS = 50
SHRINKAGE = 0.25  # power of a component's standard deviation that it is divided by
SEED = 0


def fit(embeddings: FloatArray, bits: int = CODE_BITS, *, seed: int = SEED) -> tuple[FloatArray, FloatArray]:
    """(D, B) projection and (B,) bias: code = sign(embedding @ projection + bias).

    Args:
        embeddings: (N, D) float32, N > bits.
        bits: B.
        seed: of the first rotation.
    """
    mean = embeddings.mean(axis=0, dtype=np.float64)
    _, deviations, axes = np.linalg.svd(embeddings - mean, full_matrices=False)
    components = axes[:bits].T * (deviations[:bits] / deviations[0]) ** -SHRINKAGE
    projected = (embeddings - mean) @ components
    rotation = np.linalg.qr(np.random.default_rng(seed).standard_normal((bits, bits)))[0]
    for _ in range(ITERATIONS):
        signs = np.where(projected @ rotation > 0, 1.0, -1.0)
        left, _, right = np.linalg.svd(signs.T @ projected)
        rotation = (left @ right).T
    projection = components @ rotation
    return projection.astype(np.float32), (-mean @ projection).astype(np.float32)


def list_pictures(directory: Path) -> list[Path]:
    """The pictures of a corpus that codes are learned from, in the order of its list.

    Raises:
        SystemExit: there are fewer than bits.
    """
    rows = [json.loads(line) for line in (directory / "pictures.jsonl").read_text().splitlines()]
    files = [directory / row["path"] for row in rows if row["style"] in STYLES]
    if len(files) <= CODE_BITS:
        raise SystemExit(
            f"{directory}: expected more than {CODE_BITS} pictures of {', '.join(STYLES)}, got {len(files)}"
        )
    return files


def embed(engine: EmbedderEngine, files: list[Path]) -> FloatArray:
    """(N, D) float32: the embeddings of these pictures.

    Raises:
        SystemExit: a picture cannot be read.
    """
    size = engine.info.max_batch_size
    parts = []
    for start in range(0, len(files), size):
        result = engine.embed_batch([EmbedInput(file.read_bytes()) for file in files[start : start + size]])
        for index, error in result.errors.items():
            raise SystemExit(f"{files[start + index]}: {error}")
        parts.append(result.embeddings)
    return np.concatenate(parts)


def main() -> None:
    """Embed, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=Path, required=True, help="directory with pictures.jsonl")
    parser.add_argument("--zoo", type=Path, default=Path("zoo"), help="directory of the model and its card")
    options = parser.parse_args()
    engine = EmbedderEngine(EmbedderConfig(), PictureCache(0), ModelsConfig(zoo_dir=options.zoo))
    embeddings = embed(engine, list_pictures(options.pictures))
    engine.close()
    target = options.zoo / f"{engine.info.name}.onnx"
    model = onnx.load(target)
    write_projection(model, *fit(embeddings))
    save(model, target)
    print(f"{target}: codes of {CODE_BITS} bits from {len(embeddings)} pictures, sha256 {stamp(target)}")


if __name__ == "__main__":
    main()
