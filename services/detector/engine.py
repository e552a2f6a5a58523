"""The detector: file bytes of pictures in, objects out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from bowerbird import telemetry
from bowerbird.batching import Batcher
from bowerbird.boxes import Region
from bowerbird.errors import (
    ArgumentInvalid,
    BowerbirdError,
    Cancelled,
    DeadlineExceeded,
    ExpiredInQueue,
    InferenceFailed,
    ModelNotFound,
)
from bowerbird.images import Picture, PictureCache
from bowerbird.models.engine import FloatArray
from bowerbird.models.loading import load_model, start_engine, warm_up
from bowerbird.models.preprocessing import make_batch
from bowerbird.models.settings import ModelsConfig
from bowerbird.models.threads import cpu_budget
from bowerbird.models.zoo import DetectorSpec

from .config import DetectorConfig
from .postprocess import AnchorGrid, BoolArray, find_objects

SERVICE = "detector"
DEFAULT_MAX_DETECTIONS = 20
LIMIT_MAX_DETECTIONS = 300


@dataclass(frozen=True)
class DetectOptions:
    """What a caller wants.

    Attributes:
        max_detections: the best so many; 0: 20; at most 300.
        min_score: in [0, 1]; None: the model's default.
        labels: only these; empty: all.
    """

    max_detections: int = 0
    min_score: float | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Detection:
    """An object in a picture; `score` in [0, 1]."""

    region: Region
    label: str
    score: float


@dataclass(frozen=True)
class Detections:
    """The objects of one picture, best score first; its upright size in pixels."""

    detections: tuple[Detection, ...]
    width: int
    height: int


@dataclass(frozen=True)
class ModelInfo:
    """What is served."""

    name: str
    version: str
    backend: str
    labels: tuple[str, ...]
    input_width: int
    input_height: int
    max_batch_size: int
    default_min_score: float


@dataclass(frozen=True)
class _Search:
    """Checked options, as post-processing takes them."""

    max_detections: int
    min_score: float
    wanted: BoolArray | None


@dataclass(frozen=True)
class _Prepared:
    """What a batch keeps of a picture: its upright size in pixels, and the (3, H, W) float32 input of the model."""

    size: tuple[int, int]
    pixels: FloatArray


class DetectorEngine:
    """One detection model, its batcher and its threads; safe to call from many threads."""

    def __init__(self, config: DetectorConfig, cache: PictureCache, models: ModelsConfig | None = None) -> None:
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
        self._model = load_model(config.model, "detector", models)
        assert self._model.detector is not None
        self._spec: DetectorSpec = self._model.detector
        self._grid = AnchorGrid.build(self._spec, self._model.input)
        self._threads = cpu_budget(models.cpu_threads)
        self._runtime = start_engine(self._model, models, threads=self._threads)
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="detector-decode")
        self._batcher: Batcher[FloatArray, tuple[FloatArray, FloatArray]] = Batcher(
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
            labels=self._spec.labels,
            input_width=self._model.input.width,
            input_height=self._model.input.height,
            max_batch_size=self._config.max_batch_size,
            default_min_score=self._spec.min_score,
        )

    def require_model(self, name: str) -> None:
        """Do nothing if `name` is empty or the served model.

        Raises:
            ModelNotFound: another name.
        """
        if name and name != self._runtime.name:
            raise ModelNotFound(f"no model named {name!r}; served here: {self._runtime.name}", field="model")

    def detect(
        self,
        data: bytes,
        options: DetectOptions | None = None,
        *,
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> Detections:
        """The objects of one picture.

        Args:
            data: a picture file.
            deadline: absolute, of `time.monotonic()`.
            is_cancelled: whether nobody waits for the answer any more.
        Raises:
            ImageDecodeFailed, ImageTooLarge: the bytes are no picture we take.
            ArgumentInvalid: an option is out of range.
            QueueFull, ExpiredInQueue, DeadlineExceeded, Cancelled, Draining, InferenceFailed: see `Batcher`.
        """
        search = self._check(options or DetectOptions())
        with telemetry.time_stage(SERVICE, "decode"):
            picture = self._cache.get_or_decode(data, self._min_side)
        with telemetry.time_stage(SERVICE, "preprocess"):
            pixels = self._preprocess(picture, self._threads)
        [output] = self._batcher.infer([pixels], deadline=deadline, is_cancelled=is_cancelled)
        if isinstance(output, Exception):
            raise output
        with telemetry.time_stage(SERVICE, "postprocess"):
            return self._postprocess((picture.width, picture.height), output, search)

    def detect_batch(
        self,
        pictures: Sequence[bytes],
        options: DetectOptions | None = None,
        *,
        deadline: float | None = None,
        is_cancelled: Callable[[], bool] | None = None,
    ) -> list[Detections | BowerbirdError]:
        """For each picture its objects, or why there are none; a picture that fails does not touch the others.

        Raises:
            ArgumentInvalid: no picture, more than `max_batch_size`, or an option is out of range.
            QueueFull, Draining: nothing was computed.
            DeadlineExceeded, Cancelled: nobody waits for the answer any more.
        """
        if not 1 <= len(pictures) <= self._config.max_batch_size:
            raise ArgumentInvalid(
                f"expected 1 to {self._config.max_batch_size} images, got {len(pictures)}", field="images"
            )
        search = self._check(options or DetectOptions())
        started_at = time.perf_counter()

        def prepare(data: bytes) -> _Prepared | BowerbirdError:
            _raise_if_over(deadline, is_cancelled)
            return self._prepare(data)

        prepared = list(self._pool.map(prepare, pictures))  # the first to raise calls the others off
        telemetry.record_stage(SERVICE, "decode", time.perf_counter() - started_at)
        ready = [entry for entry in prepared if not isinstance(entry, BowerbirdError)]
        outputs = iter(
            self._batcher.infer([entry.pixels for entry in ready], deadline=deadline, is_cancelled=is_cancelled)
        )
        with telemetry.time_stage(SERVICE, "postprocess"):
            return [
                entry if isinstance(entry, BowerbirdError) else self._finish(entry.size, next(outputs), search)
                for entry in prepared
            ]

    def warm_up(self) -> None:
        """Run the model once in each batch size that it will see, up to the largest."""
        warm_up(self._runtime, self._model, list(range(1, self._config.run_batch_size + 1)))

    def is_alive(self) -> bool:
        """Whether the batcher makes progress."""
        return self._batcher.is_alive()

    def close(self) -> None:
        """Answer what waits and end the threads."""
        self._batcher.close()
        self._pool.shutdown()

    @property
    def _min_side(self) -> int:
        return max(self._model.input.width, self._model.input.height)

    def _check(self, options: DetectOptions) -> _Search:
        if not 0 <= options.max_detections <= LIMIT_MAX_DETECTIONS:
            raise ArgumentInvalid(
                f"expected 0 (default) to {LIMIT_MAX_DETECTIONS} detections, got {options.max_detections}",
                field="options.max_detections",
            )
        min_score = self._spec.min_score if options.min_score is None else options.min_score
        if not (math.isfinite(min_score) and 0.0 <= min_score <= 1.0):
            raise ArgumentInvalid(f"expected a score in [0, 1], got {min_score}", field="options.min_score")
        unknown = sorted(set(options.labels) - set(self._spec.labels))
        if unknown:
            raise ArgumentInvalid(
                f"the model has no label {', '.join(map(repr, unknown))}; GetModel lists them", field="options.labels"
            )
        wanted = np.isin(self._spec.labels, options.labels) if options.labels else None
        return _Search(options.max_detections or DEFAULT_MAX_DETECTIONS, min_score, wanted)

    def _prepare(self, data: bytes) -> _Prepared | BowerbirdError:
        try:
            picture = self._cache.get_or_decode(data, self._min_side)
        except BowerbirdError as error:
            return error
        return _Prepared((picture.width, picture.height), self._preprocess(picture, 1))

    def _preprocess(self, picture: Picture, num_threads: int) -> FloatArray:
        """(3, H, W) float32, the input of one picture."""
        batch = make_batch([picture.pixels], self._model.input, num_threads=num_threads)
        return np.asarray(batch[0], np.float32)

    def _run(self, pixels: list[FloatArray]) -> list[tuple[FloatArray, FloatArray]]:
        outputs = self._runtime.run(pixels[0][None] if len(pixels) == 1 else np.stack(pixels))
        return list(zip(outputs["scores"], outputs["distances"], strict=True))

    def _finish(
        self, size: tuple[int, int], output: tuple[FloatArray, FloatArray] | Exception, search: _Search
    ) -> Detections | BowerbirdError:
        if isinstance(output, DeadlineExceeded | Cancelled):
            raise output
        if isinstance(output, BowerbirdError):
            return output
        if isinstance(output, Exception):
            return InferenceFailed(f"{self._runtime.name}: {output}")
        try:
            return self._postprocess(size, output, search)
        except InferenceFailed as error:
            return error

    def _postprocess(self, size: tuple[int, int], output: tuple[FloatArray, FloatArray], search: _Search) -> Detections:
        try:
            found = find_objects(
                *output,
                self._grid,
                self._model.input,
                min_score=search.min_score,
                max_iou=self._spec.max_iou,
                max_detections=search.max_detections,
                wanted=search.wanted,
            )
        except ValueError as error:
            raise InferenceFailed(f"{self._runtime.name}: outputs that are no detections: {error}") from error
        detections = tuple(
            Detection(Region(*box), self._spec.labels[class_], score)
            for box, class_, score in zip(
                found.boxes.tolist(), found.classes.tolist(), found.scores.tolist(), strict=True
            )
        )
        return Detections(detections, *size)


def _raise_if_over(deadline: float | None, is_cancelled: Callable[[], bool] | None) -> None:
    if deadline is not None and time.monotonic() >= deadline:
        raise ExpiredInQueue("the deadline passed before computing began; allow more time or send less at once")
    if is_cancelled is not None and is_cancelled():
        raise Cancelled("the client gave up before computing began")
