"""What PyTorch and transformers do differently on tensors without memory, put right while a step is traced.

Everything is put back. Imported with torch at hand.
"""

# ruff: noqa: ARG005
# PyTorch calls these with arguments of its own

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

Patch = tuple[Any, str, Any]
# owner, name of its attribute, what stands there meanwhile

ABSENT = object()


@contextmanager
def replaced(patches: list[Patch]) -> Iterator[None]:
    """Other attributes inside, the owners' own afterwards."""
    before: list[Patch] = []
    try:
        for owner, name, value in patches:
            before.append((owner, name, vars(owner).get(name, ABSENT)))
            setattr(owner, name, value)
        yield
    finally:
        for owner, name, value in reversed(before):
            if value is ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


@contextmanager
def implemented(table: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    """Inside, these run operators on tensors without memory; they get the fake mode, the operator and its arguments.

    What the fake mode remembers of operators goes at both ends, for it holds what other implementations gave.
    """
    known = fake_impls.op_implementations_dict
    before = {func: known.get(func) for func in table}
    FakeTensorMode.cache_clear()
    try:
        known.update(table)
        yield
    finally:
        for func, made in before.items():
            if made is None:
                known.pop(func, None)
            else:
                known[func] = made
        FakeTensorMode.cache_clear()


def eager() -> Any:
    """What is compiled runs operator by operator inside; PyTorch before 2.6 cannot be told."""
    set_stance = getattr(torch.compiler, "set_stance", None)
    return set_stance("force_eager") if set_stance is not None else nullcontext()


def fakes() -> list[Patch]:
    """What every trace needs, whatever the device."""
    from torch.optim import optimizer
    from torch.utils import _foreach_utils

    found: list[Patch] = [
        # A parameter without memory is a FakeTensor by type, for which optimizers and clip_grad_norm_ do not take the
        # foreach implementations of real ones (torch/optim/optimizer.py, _default_to_fused_or_foreach).
        (owner, "_foreach_supported_types", [*owner._foreach_supported_types, FakeTensor])
        for owner in (optimizer, _foreach_utils)
    ]
    found.append((torch.utils, "swap_tensors", _swapping(torch.utils.swap_tensors)))
    found.append((FakeTensor, "record_stream", lambda self, stream: None))
    found.append((FakeTensor, "pin_memory", lambda self, device=None: self))  # host memory either way
    library = sys.modules.get("transformers.utils.import_utils")
    if library is not None and hasattr(library, "is_fake_tensor"):
        # On a fake tensor transformers keeps attention masks that it drops for real ones, and flash attention with them
        # (masking_utils.py, find_packed_sequence_indices and _ignore_causal_mask_sdpa).
        found.append((library, "is_fake_tensor", lambda item: False))
    return found


def _swapping(original: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    """`swap_tensors`, with which modules without memory are moved and cast (`.to`, `.half`, `.cuda`).

    It refuses where anyone holds a weak reference to either tensor, and the memory of a fake mode does.
    """

    def swap(one: Any, other: Any) -> None:
        for item in (one, other):
            if isinstance(item, FakeTensor):
                item.fake_mode.fake_tensor_converter.meta_converter.tensor_memo.clear()
        original(one, other)

    return swap
