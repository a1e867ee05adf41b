"""The table: from an operator to its row. What is not in it is a doubt, never a silent zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from peakmem.training.workspaces.found import Call, Found, Machine, Row

_NO_ROW = object()
_known: dict[tuple[Any, str], Any] = {}
# operator (an overload) and device: its Row, a Found that never changes, or _NO_ROW


@lru_cache(maxsize=1)
def rows() -> dict[tuple[str, str], Row]:
    """Every row by operator ("aten::mm", without overload) and device."""
    from peakmem.training.workspaces.cpu.rows import ROWS as ON_CPU
    from peakmem.training.workspaces.cuda.rows import ROWS as ON_CUDA

    table: dict[tuple[str, str], Row] = {}
    for row in (*ON_CPU, *ON_CUDA):
        for operator in row.operators:
            if (operator, row.device) in table:
                raise ValueError(f"{operator} has two rows for {row.device}")
            table[operator, row.device] = row
    return table


@lru_cache(maxsize=1)
def machine_here() -> Machine:
    """The processor that runs this; what cannot be asked is as in the measurements."""
    import torch

    capability = torch.backends.cpu.get_cpu_capability()
    return Machine(
        threads=torch.get_num_threads(), lanes=16 if "AVX512" in capability else 8,
        bfloat16=bool(torch.ops.mkldnn._is_mkldnn_bf16_supported()),
        half=bool(torch.ops.mkldnn._is_mkldnn_fp16_supported()), onednn=torch.backends.mkldnn.is_available(),
    )  # fmt: skip


def find(
    func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any, device: str, machine: Machine | None = None
) -> Found | None:
    """What the kernel of one call takes beyond its results; None: no row says it.

    `func` is an overload (`torch.ops.aten.mm.default`), the tensors may be fake, `device` is "cpu" or "cuda".
    """
    entry = _known.get((func, device))
    if entry is None:
        entry = _known[func, device] = _entry(func, device)
    if entry is _NO_ROW:
        return None
    if type(entry) is Found:
        return entry
    answer = entry.rule(Call(args, kwargs, result, machine or machine_here()))
    if answer is None:
        return None
    if type(answer) is int:
        return Found(answer, entry.name, answer)
    if type(answer) is list:
        parts = tuple(part for part in answer if part)
        return Found(sum(parts), entry.name, sum(parts), parts=parts)
    before, nbytes, most, left = (*answer, 0, 0)[:4]
    return Found(nbytes, entry.name, max(nbytes, most), before, left if isinstance(left, tuple) else (left,))


def _entry(func: Any, device: str) -> Any:
    if is_view(func):
        return Found(0, "view", 0)
    name = func._schema.name
    row = rows().get((name, device))
    if row is None and name.startswith("prim::"):
        return Found(0, "a question about a tensor", 0)  # prim::device and its like run no kernel
    if row is None:
        return _NO_ROW
    return Found(0, row.name, 0) if row.formula == "0" else row


def is_view(func: Any) -> bool:
    """Whether an operator only looks at its operand: its schema calls the result an alias, and not written."""
    returns = func._schema.returns
    return bool(returns) and all(item.alias_info is not None and not item.alias_info.is_write for item in returns)


def tensors(value: Any) -> Iterator[Any]:
    """Every tensor in operands or results."""
    if hasattr(value, "untyped_storage"):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from tensors(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from tensors(each)


def bound_of(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:
    """Bytes that a kernel without a row is assumed not to exceed: a copy of each operand and of each result.

    Nothing proves it; of the operators of the sweep without a row all stay below it, but for `aten::_trilinear`, which
    spreads its operands over each other's dimensions.
    """
    if func._schema.name == "aten::_trilinear":
        first, second, third = args[:3]
        spread = first.numel() * second.numel() // max(int(first.shape[-1]), 1) * max(int(third.shape[-1]), 1)
        return int(2 * first.element_size() * spread)
    return sum(int(each.numel() * each.element_size()) for each in tensors((args, kwargs, result)))
