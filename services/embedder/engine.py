"""The embedder: file bytes of pictures, or regions of them, in; vectors, binary codes and labels out.

Two paths, because what is best for one picture is not for many: `embed` gives one run all threads and collects inputs
of concurrent calls; `embed_batch` gives each thread its own runs (see `bulk`).

Legend: N inputs, D dimensions, B code bits, W = B / 8 bytes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from bowerbird import images, telemetry
from bowerbird.batching import Batcher
from bowerbird.boxes import Region
from bowerbird.errors import ArgumentInvalid, BowerbirdError, ModelNotFound
from bowerbird.images import Picture, PictureCache
from bowerbird.models.engine import FloatArray
from bowerbird.models.loading import load_model, start_engine, warm_up
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.settings import ModelsConfig
from bowerbird.models.threads import cpu_budget
from bowerbird.models.zoo import EmbedderSpec, HeadSpec
from bowerbird.vectors import CodeArray, pack_code

from .bulk import BulkRunner, Call, PixelArray, Reader
from .config import EmbedderConfig
from .heads import EmbedOptions, Labels, Wanted, check_options

SERVICE = "embedder"
DECODE_MARGIN = 0.9  # share of the input side that a scaled decode keeps; the README says what that changes


@dataclass(frozen=True)
class EmbedInput:
    """A picture file, and the region of it to look at; None: all of it."""

    data: bytes
    region: Region | None = None


@dataclass(frozen=True)
class Embedding:
    """One picture as a vector.

    Attributes:
        embedding: (D,) float32, unit length.
        code: (W,) uint8.
        labels: of the heads that were asked for.
    """

    embedding: FloatArray
    code: CodeArray
    labels: Labels = field(default_factory=dict)


@dataclass(frozen=True)
class Embeddings:
    """A batch of pictures as vectors.

    Attributes:
        embeddings: (N, D) float32, unit length; zeros where the input failed.
        codes: (N, W) uint8, likewise.
        errors: of the inputs that failed, by position.
        labels: of the heads that were asked for, by position; none where the input failed.
    """

    embeddings: FloatArray
    codes: CodeArray
    errors: dict[int, BowerbirdError]
    labels: dict[int, Labels] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelInfo:
    """What is served."""

    name: str
    version: str
    backend: str
    dimension: int
    code_bits: int
    input_width: int
    input_height: int
    max_batch_size: int
    heads: tuple[HeadSpec, ...] = ()


@dataclass(frozen=True)
class _Job:
    """One preprocessed picture, (3, height, width) float32, and what is wanted of it."""

    pixels: FloatArray
    wanted: Wanted


class EmbedderEngine:
    """One embedding model, its batcher and its threads; safe to call from many threads."""

    def __init__(self, config: EmbedderConfig, cache: PictureCache, models: ModelsConfig | None = None) -> None:
        """
        Args:
            cache: of decoded pictures; may be shared with other engines.
            models: None: the defaults.
        Raises:
            ModelNotFound, ModelFileCorrupt, ConfigInvalid: the model cannot be loaded.
        """
        models = models or ModelsConfig()
        self._config = config
        self._cache = cache
        self._model = load_model(config.model, "embedder", models)
        assert self._model.embedder is not None
        self._spec: EmbedderSpec = self._model.embedder
        self._threads = cpu_budget(models.cpu_threads)
        self._runtime = start_engine(self._model, models, threads=self._threads)
        is_shared = self._threads == 1 or models.provider != "cpu"
        self._bulk_runtime = self._runtime if is_shared else start_engine(self._model, models, threads=1)
        self._bulk = BulkRunner(
            self._bulk_runtime,
            self._model.input,
            threads=self._threads,
            chunk_size=config.chunk_size,
            max_pending=config.max_pending,
        )
        self._batcher: Batcher[_Job, Embedding] = Batcher(
            self._run,
            service=SERVICE,
            model=config.model,
            max_batch_size=config.run_batch_size,
            max_delay_s=config.max_delay_s,
            max_queue=config.max_queue,
        )

    @property
    def info(self) -> ModelInfo:
        """The served model."""
        return ModelInfo(
            name=self._runtime.name,
            version=self._runtime.version,
            backend=self._runtime.backend,
            dimension=self._spec.dimension,
            code_bits=self._spec.code_bits,
            input_width=self._model.input.width,
            input_height=self._model.input.height,
            max_batch_size=self._config.max_batch_size,
            heads=self._spec.heads,
        )

    def require_model(self, name: str) -> None:
        """Do nothing if `name` is empty or the served model.

        Raises:
            ModelNotFound: another name.
        """
        if name and name != self._runtime.name:
            raise ModelNotFound(f"no model named {name!r}; served here: {self._runtime.name}", field="model")

    def check_options(self, options: EmbedOptions) -> Wanted:
        """What the options ask of the served model.

        Raises:
            ArgumentInvalid: the model has no such head, or a number is out of range.
        """
        return check_options(options, self._spec.heads, self._runtime.name)

    def embed(
        self,
        data: bytes,
        region: Region | None = None,
        *,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Embedding:
        """The vector of one picture, or of a region of it.

        Args:
            data: a picture file.
            wanted: which labels beside it; see `check_options`.
            deadline: absolute, of `time.monotonic()`.
            is_cancelled: whether nobody waits for the answer any more.
        Raises:
            ImageDecodeFailed, ImageTooLarge: the bytes are no picture we take.
            QueueFull, ExpiredInQueue, DeadlineExceeded, Cancelled, Draining, InferenceFailed: see `Batcher`.
        """
        with telemetry.time_stage(SERVICE, "decode"):
            picture = self._cache.get_or_decode(data, self._min_side(region))
        with telemetry.time_stage(SERVICE, "preprocess"):
            batch = make_batch([_cut(picture, region)], self._model.input, num_threads=self._threads)
        job = _Job(np.asarray(batch[0]), wanted)
        [result] = self._batcher.infer([job], deadline=deadline, is_cancelled=is_cancelled)
        if isinstance(result, Exception):
            raise result
        return result

    def embed_batch(
        self,
        inputs: Sequence[EmbedInput | BowerbirdError],
        *,
        wanted: Wanted = Wanted(),  # noqa: B008 (frozen)
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Embeddings:
        """The vectors of many pictures; one that fails does not touch the others.

        Args:
            inputs: 1 to `max_batch_size`; one that could not be read stands as its error.
            wanted: as for `embed`.
            deadline, is_cancelled: as for `embed`; asked again before every few inputs.
        Raises:
            ArgumentInvalid: no input, or too many, or too many labels for one answer.
            QueueFull: too much is under way.
            ExpiredInQueue, Cancelled: nobody waits for the answer.
        """
        if not 1 <= len(inputs) <= self._config.max_batch_size:
            raise ArgumentInvalid(
                f"expected 1 to {self._config.max_batch_size} inputs, got {len(inputs)}", field="inputs"
            )
        wanted.check_count(len(inputs))
        call = Call(
            deadline,
            is_cancelled,
            np.zeros((len(inputs), self._spec.dimension), np.float32),
            np.zeros((len(inputs), self._spec.code_bits // 8), np.uint8),
            wanted,
        )
        self._bulk.run([self._make_reader(entry) for entry in inputs], call)
        return Embeddings(call.embeddings, call.codes, dict(sorted(call.errors.items())), call.labels)

    def warm_up(self) -> None:
        """Run the model in the batch sizes that it will see."""
        warm_up(self._runtime, self._model, [1, 2, self._config.run_batch_size])
        if self._bulk_runtime is not self._runtime:
            warm_up(self._bulk_runtime, self._model, [1, self._config.chunk_size])

    def is_alive(self) -> bool:
        """Whether the batcher makes progress."""
        return self._batcher.is_alive()

    def close(self) -> None:
        """Answer what waits and end the threads."""
        self._batcher.close()
        self._bulk.close()

    def _min_side(self, region: Region | None) -> int:
        side = math.ceil(DECODE_MARGIN * max(self._model.input.width, self._model.input.height))
        return images.min_side_for(region, side)

    def _make_reader(self, entry: EmbedInput | BowerbirdError) -> Reader | BowerbirdError:
        return entry if isinstance(entry, BowerbirdError) else functools.partial(self._read, entry)

    def _read(self, entry: EmbedInput) -> PixelArray:
        """The pixels to look at; regions go through the cache, as one call often asks for many of one picture."""
        min_side = self._min_side(entry.region)
        if entry.region is None:
            return images.decode(entry.data, min_side=min_side).pixels
        return _cut(self._cache.get_or_decode(entry.data, min_side), entry.region)

    def _run(self, jobs: list[_Job]) -> list[Embedding]:
        pixels = [job.pixels for job in jobs]
        names = dict.fromkeys(name for job in jobs for name in job.wanted.outputs)
        outputs = self._runtime.run(pixels[0][None] if len(pixels) == 1 else np.stack(pixels), tuple(names))
        codes = pack_code(outputs["code_projection"])
        return [
            Embedding(outputs["embedding"][row], codes[row], job.wanted.read_labels(outputs, row))
            for row, job in enumerate(jobs)
        ]


def _cut(picture: Picture, region: Region | None) -> PixelArray:
    """The pixels of the region, as a view: preprocessing takes rows that lie apart."""
    if region is None:
        return picture.pixels
    height, width = picture.pixels.shape[:2]
    left, top, right, bottom = region.to_pixels(width, height)
    return picture.pixels[top:bottom, left:right]
