from collections.abc import Sequence
from typing import Any

from bowerbird.native.places import Place

# Arrays are of any library; the compiled module checks them. A place says where to compute: None is NumPy on the host.

def scan(
    place: Place | None,
    codes: Any,
    queries: Any,
    k: int,
    mask: Any | None,
    ids: Any | None,
    list_offsets: Any | None,
    probes: Any | None,
    num_threads: int,
) -> tuple[Any, Any]: ...
def rerank(
    place: Place | None,
    rows: Any,
    queries: Any,
    candidates: Any,
    k: int,
    metric: str,
    scales: Any | None,
    offsets: Any | None,
    num_threads: int,
) -> tuple[Any, Any]: ...
def nms(place: Place | None, boxes: Any, scores: Any, max_iou: float, classes: Any | None) -> tuple[Any, Any]: ...
def batched_nms(
    place: Place | None,
    boxes: Any,
    scores: Any,
    max_iou: float,
    classes: Any | None,
    counts: Any | None,
    max_kept: int | None,
    num_threads: int,
) -> tuple[Any, Any]: ...
def soft_nms(
    place: Place | None,
    boxes: Any,
    scores: Any,
    gaussian: bool,
    sigma: float,
    max_iou: float,
    min_score: float,
    classes: Any | None,
) -> tuple[Any, Any, Any]: ...
def detection_postprocess(
    place: Place | None,
    scores: Any,
    boxes: Any,
    anchors: Any | None,
    wanted: Any | None,
    decoding: str,
    activation: str,
    image_size: list[float] | None,
    min_score: float,
    max_iou: float,
    max_candidates: int,
    max_detections: int,
    soft_sigma: float | None,
    delta_weights: list[float],
    num_threads: int,
) -> tuple[Any, Any, Any, Any]: ...
def preprocess(
    place: Place | None,
    images: Sequence[Any],
    mean: Sequence[float],
    std: Sequence[float],
    swap_channels: bool,
    area: bool,
    shorter_side: int,
    out: Any,
    num_threads: int,
) -> None: ...
def roi_align(
    place: Place | None,
    features: Any,
    boxes: Any,
    images: Any,
    height: int,
    width: int,
    spatial_scale: float,
    sampling_ratio: int,
    aligned: bool,
    num_threads: int,
) -> Any: ...
def walk(
    place: Place | None,
    graph: tuple[Any, Any, Any, Any],
    queries: tuple[Any, Any, Any],
    k: int,
    steps: int,
    restart: float,
    seed: int,
    item_bias: Any | None,
    board_bias: Any | None,
    stop_items: int,
    stop_visits: int,
    boost: bool,
    max_degree: int | None,
    num_threads: int,
) -> tuple[Any, Any, Any]: ...
def bias_table(place: Place | None, offsets: Any, neighbours: Any, weights: Any, num_threads: int) -> Any: ...
def simd_level() -> str: ...
def simd_levels() -> list[str]: ...
def use_simd_level(name: str) -> None: ...
def built_with_cuda() -> bool: ...
def cuda_device_names() -> list[str]: ...
