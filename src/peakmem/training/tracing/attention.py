"""Which kernel `scaled_dot_product_attention` takes on a CUDA device, and the operators that it then runs.

PyTorch asks the device and decides in aten/src/ATen/native/transformers/cuda/sdp_utils.cpp (the checks and their order)
and aten/src/ATen/native/transformers/attention.cpp (what is done around the kernel); a build without CUDA has neither.
The rules here are those of torch 2.13, read in its installed header sdp_utils_cpp.h and in both files beside it. What
the user switches (`sdpa_kernel`, `torch.backends.cuda.enable_flash_sdp`) is asked of PyTorch itself.

The choice is plain Python; `attend` needs torch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from peakmem.errors import UsageError

Backend = Literal["flash", "efficient", "cudnn", "math"]
NAMES: dict[int, Backend] = {0: "math", 1: "flash", 2: "efficient", 3: "cudnn"}
# SDPBackend, include/ATen/SDPBackend.h

HALF = frozenset({"float16", "bfloat16"})
NEWEST = (12, 1)
# the newest capability that the kernels are made for


@dataclass(frozen=True, slots=True)
class Call:
    """What the choice depends on."""

    query: tuple[int, ...]
    key: tuple[int, ...]
    value: tuple[int, ...]
    dtypes: tuple[str, str, str]
    last_strides: tuple[int, int, int] = (1, 1, 1)
    offsets: tuple[int, int, int] = (0, 0, 0)
    # of the three in their storages, in elements
    mask: tuple[int, ...] | None = None
    mask_learns: bool = False
    # whether the mask requires a gradient
    dropout: float = 0.0
    causal: bool = False
    grouped: bool = False
    # enable_gqa: fewer heads in key and value
    learns: bool = True
    # whether gradients are recorded for any of the three


@dataclass(frozen=True, slots=True)
class Setting:
    """What the device and the user say."""

    capability: tuple[int, int] = (8, 0)
    cudnn: int = 91002
    # the version at run time
    enabled: frozenset[Backend] = frozenset(("flash", "efficient", "cudnn", "math"))
    order: tuple[Backend, ...] = ("flash", "efficient", "math", "cudnn")
    # Context.h, sdp_priority_order
    chosen_order: bool = False
    # whether the user set the order
    deterministic: bool = False


def choose(call: Call, setting: Setting) -> Backend | None:
    """The kernel taken; None where PyTorch finds none and raises (select_sdp_backend)."""
    order = setting.order
    if not setting.chosen_order and _prefers_cudnn(setting):
        order = ("cudnn", "flash", "efficient", "math")
    possible: dict[Backend, Callable[[Call, Setting], bool]] = {
        "flash": _flash,
        "efficient": _efficient,
        "cudnn": _cudnn,
        "math": _math,
    }
    return next((name for name in order if name in setting.enabled and possible[name](call, setting)), None)


def _math(_call: Call, _setting: Setting) -> bool:
    """Takes everything."""
    return True


def _prefers_cudnn(setting: Setting) -> bool:
    """check_prefer_cudnn_attention: Hopper and Blackwell, with a cuDNN that takes any length."""
    return setting.cudnn > 91500 and setting.capability[0] in (9, 10)


def _shapes_fit(call: Call, *, grouped: bool) -> bool:
    """check_tensor_shapes, check_batch_size_and_num_heads_dense, check_nonzero_sequence_lengths_dense."""
    shapes = (call.query, call.key, call.value)
    if any(len(shape) != 4 for shape in shapes) or len({shape[0] for shape in shapes}) > 1:
        return False
    if 0 in (call.query[2], call.key[2]):
        return False
    heads = [shape[1] for shape in shapes]
    if call.grouped and grouped:
        return heads[1] == heads[2] and heads[0] % heads[1] == 0
    return len(set(heads)) == 1


def _steps_by_one(call: Call, *, ignoring_single: bool) -> bool:
    """check_last_dim_stride_equals_1_dense: elements of a head side by side; of a mask too."""
    single = ignoring_single and 1 in (call.query[-1], call.key[-1], call.value[-1])
    return single or all(stride == 1 for stride in call.last_strides)


def _flash(call: Call, setting: Setting) -> bool:
    """can_use_flash_attention."""
    if not (8, 0) <= setting.capability <= NEWEST or call.mask is not None or len(call.query) != 4:
        return False
    size = call.query[-1]
    if not size == call.key[-1] == call.value[-1] or size > 256:
        return False
    narrow = (8, 6) <= setting.capability <= (8, 9) or setting.capability[0] == 12
    if call.learns and narrow and size > 192 and not (call.dropout == 0 and size > 224):
        return False
    if call.causal and call.query[2] != call.key[2]:
        return False
    if len(set(call.dtypes)) > 1 or call.dtypes[0] not in HALF:
        return False
    return _shapes_fit(call, grouped=True) and _steps_by_one(call, ignoring_single=True)


def _efficient(call: Call, setting: Setting) -> bool:
    """can_use_mem_efficient_attention; grouped heads are compiled out up to 2.13."""
    if not (5, 0) <= setting.capability <= NEWEST or len(call.query) != 4:
        return False
    half = call.dtypes[0] in HALF
    alignment = 1
    if setting.capability[0] >= 8:
        alignment = 8 if half else 4
    elif setting.capability[0] == 7 and half:
        alignment = 8
    size, other = call.query[-1], call.value[-1]
    if size != call.key[-1] or not size or not other or size % alignment or other % alignment:
        return False
    if setting.capability[0] >= 8 and any(offset % alignment for offset in call.offsets):
        return False
    allowed = {"float16", "float32", "bfloat16"} if setting.capability[0] >= 8 else {"float16", "float32"}
    if len(set(call.dtypes)) > 1 or call.dtypes[0] not in allowed:
        return False
    return _shapes_fit(call, grouped=False) and _steps_by_one(call, ignoring_single=False)


def _cudnn(call: Call, setting: Setting) -> bool:
    """can_use_cudnn_attention, for cuDNN 9."""
    if not (8, 0) <= setting.capability <= NEWEST or setting.cudnn < 90000 or len(call.query) != 4:
        return False
    if call.dropout > 0 and (91100 < setting.cudnn < 91400 or (call.dropout * 16) % 1 or call.query[2] == 1):
        return False
    if setting.deterministic or len(set(call.dtypes)) > 1 or call.dtypes[0] not in HALF:
        return False
    if call.mask is not None and not _mask_fits(call):
        return False
    wide = setting.capability in ((9, 0), (10, 0), (10, 3))
    size, other = call.query[-1], call.value[-1]
    most = 192 if wide and setting.cudnn >= 91100 and (size, other) == (192, 128) else 128
    if size > most or other > most or size % 8 or other % 8 or call.key[2] == 1:
        return False
    return _shapes_fit(call, grouped=True) and _steps_by_one(call, ignoring_single=True)


def _mask_fits(call: Call) -> bool:
    """check_attn_mask_shape."""
    mask = call.mask or ()
    if call.mask_learns or len(mask) not in (2, 4):
        return False
    wanted = (*call.query[:3], call.key[2])[-len(mask) :]
    return all(given in (1, want) for given, want in zip(mask, wanted, strict=True))


def describe(query: Any, key: Any, value: Any, mask: Any, dropout: float, causal: bool, grouped: bool) -> Call:
    """The call that these tensors make."""
    import torch

    given = (query, key, value)
    return Call(
        tuple(query.shape), tuple(key.shape), tuple(value.shape),
        tuple(str(item.dtype).removeprefix("torch.") for item in given),  # type: ignore[arg-type]
        tuple(item.stride(-1) for item in given), tuple(item.storage_offset() for item in given),
        None if mask is None else tuple(mask.shape), mask is not None and mask.requires_grad, dropout, causal, grouped,
        torch.is_grad_enabled() and any(item.requires_grad for item in given),
    )  # fmt: skip


def priority_order() -> tuple[int, ...]:
    """In which order PyTorch tries the kernels now, by the numbers of SDPBackend."""
    import torch

    ask = getattr(torch._C, "_get_sdp_priority_order", None)
    return tuple(ask()) if ask is not None else (1, 2, 0, 3)  # fixed before PyTorch 2.6


def setting_of(capability: tuple[int, int], cudnn: int, default_order: tuple[int, ...]) -> Setting:
    """What the user has switched, on a device of this capability."""
    import torch

    flags = torch.backends.cuda
    switched: dict[Backend, bool] = {
        "flash": flags.flash_sdp_enabled(), "efficient": flags.mem_efficient_sdp_enabled(),
        "cudnn": flags.cudnn_sdp_enabled(), "math": flags.math_sdp_enabled(),
    }  # fmt: skip
    numbers = priority_order()
    return Setting(
        capability, cudnn, frozenset(name for name, is_on in switched.items() if is_on),
        tuple(NAMES[number] for number in numbers if number in NAMES), numbers != default_order,
        torch.are_deterministic_algorithms_enabled() and not torch.is_deterministic_algorithms_warn_only_enabled(),
    )  # fmt: skip


def attend(
    query: Any, key: Any, value: Any, mask: Any, dropout: float, causal: bool, scale: float | None, grouped: bool,
    setting: Setting,
) -> Any:  # fmt: skip
    """Attention by the operators that PyTorch runs on the device.

    Raises:
        UsageError: none of the kernels that the user left switched on takes the call.
    """
    import torch

    aten = torch.ops.aten
    backend = choose(describe(query, key, value, mask, dropout, causal, grouped), setting)
    if backend is None:
        raise UsageError(
            "no attention kernel that is switched on takes this call", where="scaled_dot_product_attention",
            expected=f"one of {', '.join(sorted(setting.enabled))} to fit shapes, dtype and mask",
            hint="sdpa_kernel with SDPBackend.MATH among the backends",
        )  # fmt: skip
    learns = torch.is_grad_enabled() and any(item.requires_grad for item in (query, key, value))
    if backend == "flash":
        size = query.shape[-1]
        scale = 1 / math.sqrt(size) if scale is None else scale
        padded = [_padded(item) for item in (query, key, value)]
        made = aten._scaled_dot_product_flash_attention(*padded, dropout, causal, False, scale=scale)[0]
        return made if made.shape[-1] == size else made[..., :size]
    mask = _additive(mask, query.dtype)
    if backend == "cudnn":
        return aten._scaled_dot_product_cudnn_attention(
            query, key, value, mask, learns, dropout, causal, False, scale=scale
        )[0]
    if backend == "efficient":
        if mask is not None:
            mask = _aligned(mask).expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        return aten._scaled_dot_product_efficient_attention(
            query, key, value, mask, learns, dropout, causal, scale=scale
        )[0]
    return by_products(query, key, value, mask, dropout, causal, scale, grouped)


def _padded(tensor: Any) -> Any:
    """pad_last_dim<8, false>: heads of a size that is a multiple of 8."""
    import torch

    missing = -tensor.shape[-1] % 8
    return torch.nn.functional.pad(tensor, (0, missing)) if missing else tensor


def _additive(mask: Any, dtype: Any) -> Any:
    """convert_boolean_attn_mask: what is left out becomes minus infinity."""
    import torch

    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.where(mask.logical_not(), -math.inf, torch.scalar_tensor(0.0, dtype=dtype, device=mask.device))


def _aligned(mask: Any) -> Any:
    """preprocess_mask: rows that begin at multiples of 8 elements."""
    import torch

    if mask.stride(-1) == 1 and not any(stride % 8 for stride in mask.stride()[:-1]):
        return mask
    width = mask.shape[-1]
    return torch.nn.functional.pad(mask, (0, 8 - width % 8))[..., :width]


def by_products(
    query: Any, key: Any, value: Any, mask: Any, dropout: float, causal: bool, scale: float | None, grouped: bool
) -> Any:
    """_scaled_dot_product_attention_math; the mask is added in place, as it is without a dispatch mode."""
    import torch

    kind = query.dtype
    narrow = (torch.float16, torch.bfloat16)
    if not torch.backends.cuda.fp16_bf16_reduction_math_sdp_allowed():
        query, key, value = (item.float() if item.dtype in narrow else item for item in (query, key, value))
    factor = math.sqrt(abs(scale) if scale is not None else 1 / math.sqrt(query.shape[-1]))
    query = query * (-factor if scale is not None and scale < 0 else factor)
    if causal:
        whole = torch.ones(query.shape[-2], key.shape[-2], dtype=torch.bool, device=query.device).tril()
        mask = _additive(whole, query.dtype)
        del whole
    if grouped and query.shape[-3] != key.shape[-3]:
        key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
        value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
    scores = torch.matmul(query, key.transpose(-2, -1) * factor)
    if mask is not None:
        scores.add_(mask)
    scores = torch.ops.aten._safe_softmax(scores, -1)
    if dropout > 0:
        scores = torch.dropout(scores, dropout, True)
    return torch.matmul(scores, value).to(kind)
