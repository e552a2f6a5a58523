"""Augmentation suited to icons, clip art and photographs: cheap, on whole batches, and the same wherever it runs.

config      how strongly, and the presets
changes     the changes, as functions on tensors
transforms  from decoded pictures to a model's input, for training and for evaluation
"""

from bowerbird.training.augment.config import PRESETS, AugmentConfig
from bowerbird.training.augment.transforms import Augment, Evaluate

__all__ = ["PRESETS", "Augment", "AugmentConfig", "Evaluate"]
