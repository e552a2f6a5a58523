"""Settings of the detector service, section `detector`."""

from __future__ import annotations

from dataclasses import dataclass

from bowerbird.errors import ConfigInvalid


@dataclass(frozen=True)
class DetectorConfig:
    """Which model, and how much at once."""

    model: str = "nanodet-g"
    """Name of the zoo's model that is served."""
    max_batch_size: int = 32
    """Pictures in one BatchDetect; with 8 MiB a picture the message limit is reached before."""
    run_batch_size: int = 4
    """Pictures in one run of the model; larger runs are no faster on a processor, and make others wait."""
    max_delay_s: float = 0.002
    """How long a picture may wait for company; a run takes twenty times as long."""
    max_queue: int = 64
    """Pictures that wait before work is refused; about two seconds of work on two cores."""
    cache_bytes: int = 256 * 2**20
    """Bytes of decoded pixels kept when the service runs alone; about 300 photographs of 640 x 427."""

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "run_batch_size", "max_queue"):
            if getattr(self, name) < 1:
                raise ConfigInvalid(f"[detector] {name}: expected 1 or more, got {getattr(self, name)}")
        if not 0 <= self.max_delay_s <= 1:
            raise ConfigInvalid(f"[detector] max_delay_s: expected 0 to 1 second, got {self.max_delay_s}")
        if self.cache_bytes < 0:
            raise ConfigInvalid(f"[detector] cache_bytes: expected 0 or more, got {self.cache_bytes}")
