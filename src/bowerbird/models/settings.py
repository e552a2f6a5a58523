"""Settings that all model-serving engines of a process share: section `[models]`, variables `BOWERBIRD_MODELS_...`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from bowerbird.errors import ConfigInvalid

PROVIDERS = ("cpu", "cuda")
UNSET = Path()


@dataclass(frozen=True)
class ModelsConfig:
    """Where models come from and what they may use.

    Attributes:
        cpu_threads: processor threads that the engines of this process may keep busy; 0: as many as the container's
            quota and the process's affinity allow.
        provider: `cpu` or `cuda` (needs the package onnxruntime-gpu and a device).
        zoo_dir: directory of model files and cards; empty: `BOWERBIRD_ZOO`, else the zoo that came with the package.
    """

    cpu_threads: int = 0
    provider: str = "cpu"
    zoo_dir: Path = UNSET

    def __post_init__(self) -> None:
        if not 0 <= self.cpu_threads <= 1024:
            raise ConfigInvalid(f"[models] cpu_threads: expected 0 (automatic) to 1024, got {self.cpu_threads}")
        if self.provider not in PROVIDERS:
            raise ConfigInvalid(f"[models] provider: expected {' or '.join(PROVIDERS)}, got {self.provider!r}")
        if self.zoo_dir != UNSET and not self.zoo_dir.is_dir():
            raise ConfigInvalid(f"[models] zoo_dir: expected a directory that exists, got {self.zoo_dir}")
