"""In which order torch's foreach and fused steps take parameters: by device and dtype, groups in the order of a hash.

`_group_tensors_by_first_tensors_device_and_dtype` (ATen/native/ForeachUtils.h) puts them in a `std::unordered_map`
keyed by device and dtype, and walks it. The key's bytes are hashed by FNV-1a (ATen/native/utils/ParamsHash.h); GNU's
map has 13 buckets for up to 13 keys, and puts a new key before all others, or before those of its own bucket.
"""

from __future__ import annotations

from collections.abc import Sequence

from peakmem.training.optimizers.parameters import Parameter

_CODES = {
    "uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7, "bool": 11,
    "bfloat16": 15, "float8_e5m2": 23, "float8_e4m3fn": 24,
}  # fmt: skip
# torch/headeronly/core/ScalarType.h: places in the list of types
_DEVICES = {"cpu": (0, 255), "cuda": (1, 0)}
# type and index, as bytes: the processor has the index -1
_BUCKETS = 13


def _bucket(device: str, dtype: str) -> int:
    value = 0x811C9DC5
    for byte in (*_DEVICES[device], _CODES[dtype]):
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value % _BUCKETS


def groups(parameters: Sequence[Parameter], device: str) -> list[list[Parameter]]:
    """Parameters that one call takes together, in the order of the calls."""
    order: list[str] = []
    found: dict[str, list[Parameter]] = {}
    for parameter in parameters:
        if parameter.dtype not in found:
            same = [at for at, dtype in enumerate(order) if _bucket(device, dtype) == _bucket(device, parameter.dtype)]
            order.insert(min(same, default=0), parameter.dtype)
            found[parameter.dtype] = []
        found[parameter.dtype].append(parameter)
    return [found[dtype] for dtype in order]
