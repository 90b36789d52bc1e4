"""The forms in which a version of a model can be fetched: their names, and how their files end."""

from __future__ import annotations

SAFETENSORS = "safetensors"  # the stored file itself
STATE_DICT = "state_dict"  # torch.save of a dict of tensors
ONNX = "onnx"
TORCHSCRIPT = "torchscript"  # for torch.jit.load
# What a caller may ask for → the form that answers it.
NAMES = {name: name for name in (SAFETENSORS, STATE_DICT, ONNX, TORCHSCRIPT)} | {"pytorch": STATE_DICT}
ENDINGS = {SAFETENSORS: "safetensors", STATE_DICT: "pt", ONNX: "onnx", TORCHSCRIPT: "torchscript"}
# These hold what the model computes, not only its numbers: made for described architectures only.
DESCRIBED = (ONNX, TORCHSCRIPT)
