"""Model files and what runs them: the zoo, the runtimes behind one interface, the thread budget; and networks.

zoo           a directory of small model files with a card each; nothing is loaded that its card does not vouch for
engine        the interface of a runtime
onnx_runtime  ONNX Runtime, on the processor or on CUDA
tensorrt      TensorRT, on CUDA; tensorrt_build makes its engines (needs onnx), cuda_driver holds memory for it
threads       how many processor threads this process may keep busy
settings      section [models]: threads, provider, zoo directory

Networks to train, which need the extra `train` and which nothing that serves imports:

vit           Vision Transformers
efficientnet  the open CNN, whole or as the front of a Vision Transformer
checkpoints   published weights into these networks
"""

from bowerbird.models.engine import FloatArray, InferenceEngine
from bowerbird.models.onnx_runtime import OnnxRuntimeEngine
from bowerbird.models.settings import ModelsConfig

__all__ = ["FloatArray", "InferenceEngine", "ModelsConfig", "OnnxRuntimeEngine"]
