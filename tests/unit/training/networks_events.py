"""What a step allocates and releases, seen by a dispatch mode of twenty lines that shares nothing with the tracer.

Two modules behave alike when both lists are equal, event by event.
"""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter


class Events(TorchDispatchMode):
    """Bytes of each storage that comes (with its operator) and, negative, of each that goes."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, int]] = []
        self.known: dict[int, Any] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for item in tree_iter(result):
            if isinstance(item, torch.Tensor):
                storage = item.untyped_storage()
                known = self.known.get(storage._cdata)
                if known is None or known() is not storage:
                    self._meet(storage, func._schema.name)
        return result

    def _meet(self, storage: Any, operator: str) -> None:
        nbytes, found = storage.nbytes(), self.found
        found.append((operator, nbytes))
        self.known[storage._cdata] = weakref.ref(storage, lambda _: found.append(("", -nbytes)))


def events(make: Callable[[], Callable[[], Any]], steps: int = 2) -> list[list[tuple[str, int]]]:
    """The events of the making, and of each of the steps it gives (a loss whose backward is run)."""
    gc.collect()
    gc.disable()
    try:
        with warnings.catch_warnings(), Events() as seen:
            warnings.simplefilter("ignore")
            step = make()
            found = [list(seen.found)]
            for _ in range(steps):
                seen.found.clear()
                loss = step()
                loss.backward()
                del loss
                found.append(list(seen.found))
        del step
        return found
    finally:
        gc.enable()


def first_difference(ours: list[tuple[str, int]], theirs: list[tuple[str, int]]) -> str:
    """Empty where the lists are equal; else where they part, with what stands around it."""
    for at, (one, other) in enumerate(zip(ours, theirs, strict=False)):
        if one != other:
            return f"event {at}: {ours[max(at - 6, 0) : at + 4]} against {theirs[max(at - 6, 0) : at + 4]}"
    if len(ours) != len(theirs):
        return f"{len(ours)} events against {len(theirs)}"
    return ""


def peers_importable() -> None:
    """Make torchvision's Python importable where its compiled part is not (it needs the libraries of a GPU)."""
    try:
        torch.ops.torchvision.nms  # noqa: B018
    except (AttributeError, RuntimeError):
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)


_KEPT: list[Any] = []


def peer(name: str) -> Any:
    """A library to compare with, or the test is skipped."""
    import importlib

    import pytest

    if importlib.util.find_spec(name) is None:
        pytest.skip(f"compares with {name}, which is not installed")
    peers_importable()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (ImportError, RuntimeError) as fault:
            pytest.skip(f"{name} cannot be imported: {fault}")
