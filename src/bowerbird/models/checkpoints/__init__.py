"""Published checkpoints of Vision Transformers, from safetensors files into our networks. Nothing is ever unpickled.

Outputs are those of the source. With random weights in every parameter, in float32, at native and other sizes, ours and
ViTModel, Dinov2Model, Dinov2WithRegistersModel and CLIPVisionModel of transformers differ by 0.0 (tolerance 5e-6);
so do networks of timm 1.0.31 (ViT, DeiT, DINOv2, CLIP). Plain towers written for the tests differ by 8.4e-7.
One deviation is known: at a size that is not its own, the first code of DINOv2 interpolates to a grid larger by 0.1;
ours is the exact grid, as in transformers.

files     tensors out of a file that can hold no code
layouts   how other projects name the same parameters
backbone  loading into a network, and what network a checkpoint is of
"""

from bowerbird.models.checkpoints.backbone import LoadReport, infer_config, load_backbone
from bowerbird.models.checkpoints.files import read_tensors
from bowerbird.models.checkpoints.layouts import LAYOUTS

__all__ = ["LAYOUTS", "LoadReport", "infer_config", "load_backbone", "read_tensors"]
