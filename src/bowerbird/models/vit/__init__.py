"""Vision Transformers: any width, depth, patch and picture size; the state dict takes published checkpoints.

config   what a network is made of, and the presets
stems    from pixels to patch tokens: linear, convolutional, or the front of an open CNN
blocks   attention and multi-layer perceptron
network  the whole
"""

from bowerbird.models.vit.config import PRESETS, VitConfig
from bowerbird.models.vit.network import Tokens, VisionTransformer, resize_positions
from bowerbird.models.vit.stems import HybridStem

__all__ = ["PRESETS", "HybridStem", "Tokens", "VisionTransformer", "VitConfig", "resize_positions"]
