"""Texts turned into vectors, by a BERT-like encoder in an ONNX file with its tokenizer beside it.

Legend: N texts, L tokens of the longest text of a batch, D dimension.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnxruntime

from bowerbird.errors import ArgumentInvalid, InferenceFailed, ModelFileCorrupt, ModelNotFound, PackageUnavailable
from bowerbird.models.engine import FloatArray
from bowerbird.models.onnx_runtime import make_session_options

if TYPE_CHECKING:
    from tokenizers import Encoding

IntArray = npt.NDArray[np.int64]

MAX_TOKENS = 128  # to which the sentences were cut that the model was trained on
BATCH_SIZE = 64
INPUTS = {"input_ids", "attention_mask", "token_type_ids"}


class TextEncoder:
    """Sentence vectors: the mean of the token vectors, without the padding, at unit length.

    Source: Reimers and Gurevych, Sentence-BERT, 2019, section 3 (mean pooling).
    """

    def __init__(self, model: Path, tokenizer: Path, *, threads: int = 0, max_tokens: int = MAX_TOKENS) -> None:
        """
        Args:
            model: ONNX file; inputs `input_ids`, `attention_mask` and `token_type_ids`, (N, L) int64; its first
                output holds the token vectors, (N, L, D) float32.
            tokenizer: `tokenizer.json` of the Tokenizers library.
            threads: of the processor; 0: one a core.
            max_tokens: what is longer is cut off at the end; counts the marks for begin and end.
        Raises:
            ModelNotFound: a file cannot be read.
            ModelFileCorrupt: it is read, but is not what it should be.
            PackageUnavailable: the package `tokenizers` is not installed.
        """
        self._tokenizer = _load_tokenizer(_read(tokenizer), tokenizer, max_tokens)
        content = _read(model)
        try:
            options = make_session_options(threads)
            self._session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # the runtime has a class per status code, all plain Exceptions
            raise ModelFileCorrupt(f"{model} is not a model that ONNX Runtime accepts: {error}") from error
        inputs = {each.name for each in self._session.get_inputs()}
        width = self._session.get_outputs()[0].shape[-1]
        if inputs != INPUTS or not isinstance(width, int):
            raise ModelFileCorrupt(
                f"{model}: expected inputs {', '.join(sorted(INPUTS))} and token vectors of a fixed width, "
                f"got {', '.join(sorted(inputs))} and {self._session.get_outputs()[0].shape}"
            )
        self._dimension = width
        self._sha256 = hashlib.sha256(content + _read(tokenizer)).hexdigest()

    @property
    def dimension(self) -> int:
        """D."""
        return self._dimension

    @property
    def sha256(self) -> str:
        """Of model and tokenizer together: vectors of encoders that differ here cannot be compared."""
        return self._sha256

    def encode(self, texts: Sequence[str]) -> FloatArray:
        """(N, D) float32, unit length; the vector of a text does not depend on the other texts.

        Raises:
            ArgumentInvalid: a text is blank, which has no direction; leave it out before.
            InferenceFailed: the runtime failed.
        """
        blank = next((position for position, text in enumerate(texts) if not text.strip()), None)
        if blank is not None:
            raise ArgumentInvalid(f"texts[{blank}]: expected words, got {texts[blank]!r}; leave blank texts out")
        vectors = np.empty((len(texts), self._dimension), np.float32)
        encodings = self._tokenizer.encode_batch(list(texts))
        by_length = sorted(range(len(texts)), key=lambda position: len(encodings[position].ids))  # little padding
        for start in range(0, len(texts), BATCH_SIZE):
            positions = by_length[start : start + BATCH_SIZE]
            vectors[positions] = self._run([encodings[position] for position in positions])
        return vectors

    def _run(self, encodings: list[Encoding]) -> FloatArray:
        ids, mask = _pad(encodings)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        try:
            tokens: FloatArray = self._session.run(None, feeds)[0]
        except Exception as error:
            raise InferenceFailed(f"the text encoder failed on a batch of shape {ids.shape}: {error}") from error
        sums = np.einsum("nld,nl->nd", tokens, mask.astype(np.float32))  # the mean but for its length
        return np.asarray(sums / np.linalg.norm(sums, axis=1, keepdims=True), np.float32)


def _pad(encodings: list[Encoding]) -> tuple[IntArray, IntArray]:
    """Token ids and mask, (N, L) int64: 1 where there is a token, 0 where the row is filled up."""
    shape = len(encodings), max(len(encoding.ids) for encoding in encodings)
    ids, mask = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    for row, encoding in enumerate(encodings):
        ids[row, : len(encoding.ids)] = encoding.ids
        mask[row, : len(encoding.ids)] = 1
    return ids, mask


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ModelNotFound(f"cannot read model file {path}: {error.strerror}") from error


def _load_tokenizer(content: bytes, path: Path, max_tokens: int) -> Any:
    try:
        from tokenizers import Tokenizer
    except ModuleNotFoundError as error:
        raise PackageUnavailable(
            "text encoders need the package tokenizers, which is not installed: pip install 'bowerbird[train]'"
        ) from error
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exceptions and ValueErrors
        raise ModelFileCorrupt(f"{path} is not a tokenizer: {error}") from error
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_tokens)
    return tokenizer
