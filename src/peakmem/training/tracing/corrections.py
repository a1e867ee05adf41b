"""What PyTorch does differently because a dispatch mode watches it, and how the log is put right.

Under a mode every tensor counts as a subclass (`isTensorSubclassLike`, aten/src/ATen/TensorSubclassLikeUtils.h), and
autograd avoids writing into such tensors. Each rule says when the result of an operator would have been written over
its first operand; the recorder then joins the two if that operand is released before anything else is allocated, which
is what "nobody else holds it" comes to. Imported with torch at hand.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import Any

import torch

# Gradients that meet at a node: torch/csrc/autograd/input_buffer.cpp, `accumulate`, adds into the one that came first
# if it is dense, no view and held by nobody else. The engine calls the operator itself, not a function of Python.
# Evidence: GPT-2, SGD, bfloat16: 6.11 % too high without the rule, equal to the profiler with it.
MEETING = "aten::add"
ENGINE = "_engine_run_backward"
WRAPPERS = frozenset({"__torch_dispatch__", "_fn", "inner"})
# frames between the engine and the mode: the mode's own, and those of torch/_compile.py and torch/_dynamo/eval_frame.py

# Functions of torch/csrc/autograd/FunctionsManual.cpp and of ATen's composite operators that fill a fresh tensor in
# place unless one of their operands is a subclass. Evidence: gather's and index's backward of an embedding and of a
# cross entropy; each is `result = new_zeros(…); result.op_(…)` in the source.
FRESH = frozenset(
    {
        "aten::scatter_add", "aten::scatter", "aten::index_put", "aten::index_add", "aten::index_copy",
        "aten::index_fill", "aten::masked_fill", "aten::masked_scatter", "aten::select_scatter", "aten::slice_scatter",
        "aten::diagonal_scatter", "aten::as_strided_scatter", "aten::put",
    }
)  # fmt: skip


def in_place_of(operator: str, args: Any, kwargs: Any, phase: str) -> Any:
    """The operand that the result of `operator` would be written over without a mode; None for all others."""
    if phase != "backward" or (operator != MEETING and operator not in FRESH):
        return None
    first = args[0] if args else None
    if not isinstance(first, torch.Tensor):
        return None
    if not _by_engine():
        return None
    if operator == MEETING:
        if len(args) != 2 or kwargs or not isinstance(args[1], torch.Tensor):
            return None
        if first.shape != args[1].shape or first.dtype != args[1].dtype or first._is_view():
            return None
    return first


def _by_engine() -> bool:
    """Whether no Python code stands between the engine and the operator; the threads of devices have none at all."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and frame.f_code.co_name in WRAPPERS:
        frame = frame.f_back
    return frame is None or frame.f_code.co_name == ENGINE
