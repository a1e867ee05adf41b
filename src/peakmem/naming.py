"""What a stored tensor is for, told by its name, shape and neighbours: naming habits, not a proof.

For sources without operators. The habits are those of PyTorch, Hugging Face, timm, Keras, ggml and
the quantisation libraries; a name that follows none of them makes a floating tensor a weight, which
moves a count between roles and never changes a total.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

from peakmem.ir.graph import Tensor

ParameterRole = Literal["weight", "bias", "norm", "statistic", "quantisation", "other"]

_STATISTIC = re.compile(r"(running|moving)_(mean|var|variance)(:\d+)?$", re.IGNORECASE)
_NORM = re.compile(r"norm|(^|[._/])(ln|bn|gn)(\d*|_\w+)([._/]|$)", re.IGNORECASE)
_BUFFER = re.compile(
    r"(num_batches_tracked|inv_freq|position_ids|relative_position_index|relative_coords_table|masked_bias|attn_mask"
    r"|causal_mask|freqs_cis|(cos|sin)(_cached)?|weight_shape)$|(^|\.)rope_(freqs|factors_\w+)\.weight$"
)
# tables that networks store and do not train
_SIDE = re.compile(
    r"(^|[._])((weight|input|output|act|activation|global|[kvq])_scale(_inv|_\d)?|scale_inv|scales|(weight|input)_zero_point"
    r"|zero_point|q?zeros|(nested_)?absmax|g_idx|weight_g_idx|(nested_)?quant_map|SCB|weight_format|q_(groups?|group_map"
    r"|scale_max|invperm|perm)|weight_global_scale|input_global_scale)$"
    r"|quant_state\.\w+$|activation_post_process|fake_quant"
)
_PACKED = re.compile(r"(^|[._])(q?weight|q_weight|weight_packed|W_q|trellis|blocks|kernel)$")
_TRAINED_SCALAR = re.compile(r"(^|[._])(logit_(scale|bias)|weight|bias)$")

_ENDS = ("", ":0")
# TensorFlow writes the number of an output behind a name


@dataclass(slots=True)
class _Module:
    """The tensors of one module by the last part of their names, and what they say together."""

    leaves: dict[str, Tensor] = field(default_factory=dict)
    has_statistics: bool = False
    has_matrix: bool = False

    def add(self, leaf: str, tensor: Tensor) -> None:
        self.leaves[leaf] = tensor
        self.has_statistics = self.has_statistics or _is_statistic(leaf)
        self.has_matrix = self.has_matrix or len(tensor.shape or ()) >= 2


@lru_cache(4096)
def _is_statistic(leaf: str) -> bool:
    return _STATISTIC.search(leaf) is not None


def stored_roles(tensors: Iterable[Tensor]) -> dict[str, ParameterRole]:
    """The role of each tensor of a source without operators, by name."""
    listed = list(tensors)
    modules: dict[str, _Module] = {}
    for tensor in listed:
        prefix, leaf = module_and_leaf(tensor.name)
        modules.setdefault(prefix, _Module()).add(leaf, tensor)
    roles: dict[str, ParameterRole] = {}
    for tensor in listed:
        prefix, leaf = module_and_leaf(tensor.name)
        roles[tensor.name] = _role(tensor, prefix, leaf, modules[prefix])
    return roles


def module_and_leaf(name: str) -> tuple[str, str]:
    """("encoder.0.fc1", "weight") of encoder.0.fc1.weight; parts are joined by "." or "/"."""
    cut = max(name.rfind("."), name.rfind("/"))
    return name[: max(cut, 0)], name[cut + 1 :]


def _role(tensor: Tensor, prefix: str, leaf: str, module: _Module) -> ParameterRole:
    dtype, shape = tensor.dtype, tensor.shape or ()
    if not tensor.parameter or dtype is None or dtype.kind in ("bool", "string"):
        return "other"
    if leaf == "weight" and len(shape) >= 2 and dtype.kind == "float":
        return "weight"  # most tensors of most files
    if _is_statistic(leaf):
        return "statistic"
    if _BUFFER.search(tensor.name):
        return "other"
    if _SIDE.search(tensor.name) or _beside_quantised(leaf, module.leaves):
        return "quantisation"
    if dtype.kind in ("int", "uint"):
        narrow = dtype.bits is not None and dtype.bits <= 8 and len(shape) >= 2
        return "weight" if narrow or (dtype.bits != 64 and _PACKED.search(tensor.name)) else "other"
    if not shape:
        return "weight" if _TRAINED_SCALAR.search(tensor.name) else "other"
    biased = leaf.lower().split(":")[0].startswith("bias") or leaf.lower().endswith("bias") or leaf in ("beta", "b")
    if len(shape) >= 2:
        mask = len(shape) == 4 and shape[:2] == (1, 1) and shape[2] == shape[3]
        return ("other" if mask else "bias") if biased else "weight"
    return _vector_role(tensor, prefix, leaf, module, biased)


def _vector_role(tensor: Tensor, prefix: str, leaf: str, module: _Module, biased: bool) -> ParameterRole:
    """Of a floating tensor of one dimension: a norm, a bias, or else a weight."""
    if module.has_statistics:
        return "norm"
    if leaf.isdecimal() and prefix.endswith("/vars"):
        return _positional_role(int(leaf), prefix, module)
    place = "/".join(re.split(r"[./]", prefix)[-2:])
    if not module.has_matrix and (_NORM.search(f"{place}/") or _NORM.search(leaf)):
        return "norm"
    leaves = module.leaves
    if leaf.split(":")[0] in ("gamma", "beta") and any({f"gamma{end}", f"beta{end}"} <= leaves.keys() for end in _ENDS):
        return "norm"
    pair = [leaves.get("weight"), leaves.get("bias")]
    if leaf in ("weight", "bias") and all(item is not None and item.shape == tensor.shape for item in pair):
        return "norm"
    return "bias" if biased else "weight"


def _positional_role(position: int, prefix: str, module: _Module) -> ParameterRole:
    """Of a Keras variable that has a number for a name: layers list kernels before biases, statistics last."""
    layer = prefix.split("/")[-2]
    if _NORM.search(layer):
        batched = "batch" in layer.lower() and position >= len(module.leaves) - 2
        return "statistic" if batched else "norm"
    return "bias" if module.has_matrix and position > 0 else "weight"


def _beside_quantised(leaf: str, module: Mapping[str, Tensor]) -> bool:
    """Whether a tensor called like a scale, or MLX's `biases`, belongs to a quantised weight of its module."""
    if leaf == "scale" or leaf.endswith(("_scale", "_scales")):
        blocks = module.get(f"{leaf.removesuffix('_scales')}_blocks") if leaf.endswith("_scales") else None
        return blocks is not None or is_quantised(module.get("weight"))
    if leaf == "biases":
        return "scales" in module and is_quantised(module.get("weight"))
    return False


def is_quantised(tensor: Tensor | None) -> bool:
    """Whether a stored weight is of at most 8 bits an element, in blocks, or packed into integers."""
    if tensor is None or tensor.dtype is None:
        return False
    dtype = tensor.dtype
    return dtype.block > 1 or dtype.kind in ("int", "uint") or (dtype.bits or 64) <= 8
