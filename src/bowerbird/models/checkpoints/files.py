"""Tensors out of a safetensors file: a header in JSON and numbers, no code."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt, ModelNotFound

# How files begin that torch.save writes: a zip archive, a bare pickle of protocol 2 to 5, or one in a tar archive.
_ZIP, _PICKLES = b"PK\x03\x04", tuple(bytes([0x80, protocol]) for protocol in (2, 3, 4, 5))
_TAR_MARK, _TAR_OFFSET = b"ustar", 257


def read_tensors(path: Path | str) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name, on the processor, in the types that they are stored in.

    Raises:
        ModelNotFound: there is no such file.
        ArgumentInvalid: it is a pickle, by its content, whatever its name.
        ModelFileCorrupt: it is not a whole safetensors file.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelNotFound(f"no checkpoint at {path}")
    with path.open("rb") as file:
        head = file.read(_TAR_OFFSET + len(_TAR_MARK))
    if head.startswith((_ZIP, *_PICKLES)) or head[_TAR_OFFSET:] == _TAR_MARK:
        raise ArgumentInvalid(
            f"{path} is a pickle: loading it would run whatever code its author put in, so it is refused. Most "
            "projects publish the same weights as .safetensors; else convert the file yourself, where you trust it"
        )
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, ValueError) as error:
        raise ModelFileCorrupt(f"{path} is not a whole safetensors file: {error}") from error
    return tensors
