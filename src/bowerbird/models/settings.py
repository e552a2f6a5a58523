"""Settings that all model-serving engines of a process share: section `[models]`, variables `BOWERBIRD_MODELS_...`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import ConfigInvalid

PROVIDERS = ("cpu", "cuda", "tensorrt")
PRECISIONS = ("fp32", "tf32", "fp16", "bf16")
UNSET = Path()


@dataclass(frozen=True)
class ModelsConfig:
    """Where models come from and what they may use.

    Attributes:
        cpu_threads: processor threads that the engines of this process may keep busy; 0: as many as the container's
            quota and the process's affinity allow.
        provider: `cpu`; `cuda` (needs the package onnxruntime-gpu and a device); or `tensorrt` (needs the extra [gpu],
            a device, and an engine that `python -m bowerbird.models.tensorrt_build` made).
        precision: of the TensorRT engine: `fp32`, `tf32`, `fp16` or `bf16`.
        engines_dir: directory of TensorRT engines; empty: `BOWERBIRD_ENGINES`, else in the user's cache.
        zoo_dir: directory of model files and cards; empty: `BOWERBIRD_ZOO`, else the zoo that came with the package.
    """

    cpu_threads: int = 0
    provider: str = "cpu"
    zoo_dir: Path = UNSET
    precision: str = "fp16"
    engines_dir: Path = UNSET

    def __post_init__(self) -> None:
        if not 0 <= self.cpu_threads <= 1024:
            raise ConfigInvalid(f"[models] cpu_threads: expected 0 (automatic) to 1024, got {self.cpu_threads}")
        if self.provider not in PROVIDERS:
            raise ConfigInvalid(f"[models] provider: expected {', '.join(PROVIDERS)}, got {self.provider!r}")
        if self.precision not in PRECISIONS:
            raise ConfigInvalid(f"[models] precision: expected {', '.join(PRECISIONS)}, got {self.precision!r}")
        if self.zoo_dir != UNSET and not self.zoo_dir.is_dir():
            raise ConfigInvalid(f"[models] zoo_dir: expected a directory that exists, got {self.zoo_dir}")
