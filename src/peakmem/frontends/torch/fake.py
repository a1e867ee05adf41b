"""PyTorch tensors without memory: for modules, for what they are called with, and for building them.

A fake tensor has shape, dtype and device and no bytes. Modules with real parameters are looked at
and never copied; whatever a capture changes on a module is put back.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Any

from peakmem.errors import MissingLibrary, UsageError
from peakmem.frontends.torch.inputs import Arguments, Given, Structure

SMALL = 4096
# elements; tensors up to here are real while a module is built, so that its code may read them


def require_torch() -> Any:
    """The torch module.

    Raises:
        MissingLibrary: it is not installed.
    """
    try:
        import torch
    except ImportError:
        raise MissingLibrary("PyTorch", extra="torch", purpose="reading a PyTorch module") from None
    return torch


def new_mode() -> Any:
    """A fake mode in which sizes that depend on data become symbols."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    return FakeTensorMode(shape_env=ShapeEnv(), allow_non_fake_inputs=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings, graphs and hints that PyTorch prints while it tries."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def without_allocation() -> Iterator[None]:
    """Build modules on fake tensors: parameters take no memory, initialisers do nothing.

    Tensors of up to `SMALL` elements that are made of nothing but numbers are real, so that code
    may read them (a schedule of drop rates, the sizes of windows).
    """
    require_torch()
    import torch
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
    from torch.utils._pytree import tree_iter

    class SmallStaysReal(TorchDispatchMode):
        """Runs what is small and free of fakes for real; leaves the rest to the fake mode below."""

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            kwargs = kwargs or {}
            given = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
            if func is torch.ops.aten._local_scalar_dense.default and isinstance(given[0], FakeTensor):
                return _content(given[0])
            if any(isinstance(item, FakeTensor) or item.is_meta for item in given):
                return func(*args, **kwargs)
            if not given or any(item.numel() > SMALL for item in given):
                made = func(*args, **kwargs)
                sizes = [item.numel() for item in tree_iter(made) if isinstance(item, torch.Tensor)]
                if not all(isinstance(size, int) and size <= SMALL for size in sizes):
                    return made
            with _disable_current_modes():
                return func(*args, **kwargs)

    with warnings.catch_warnings(), new_mode(), SmallStaysReal(), torch.no_grad():
        # Copying a fake tensor asks where it lies, as torch itself does when a module copies its layers.
        warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
        yield


def _content(tensor: Any) -> bool | int | float:
    """Zero for an initialiser, which only asks whether it is done; anyone else is refused.

    Raises:
        UsageError: code that builds a module reads a tensor that has no content.
    """
    frame = sys._getframe(2)
    for _ in range(12):
        if frame.f_globals.get("__name__") == "torch.nn.init":
            return 0.0 if tensor.dtype.is_floating_point else False if str(tensor.dtype) == "torch.bool" else 0
        if frame.f_back is None:
            break
        frame = frame.f_back
    raise UsageError("building the module reads the content of a tensor that has none")


def mode_of(module: Any) -> Any:
    """The fake mode that a module's tensors belong to; a new one when it has none."""
    from torch._subclasses.fake_tensor import FakeTensor
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    for tensor in _tensors(module):
        if isinstance(tensor, FakeTensor):
            if tensor.fake_mode.shape_env is None:
                tensor.fake_mode.shape_env = ShapeEnv()
            return tensor.fake_mode
    return new_mode()


def _tensors(module: Any) -> Iterator[Any]:
    """Every tensor a module or one of its parts holds, plain attributes included."""
    import torch

    for part in module.modules():
        for held in (part._parameters, part._buffers, part.__dict__):
            yield from (item for item in held.values() if isinstance(item, torch.Tensor))


@contextmanager
def restored(module: Any) -> Iterator[None]:
    """Put back whatever happens to a module and its parts: attributes, parameters, buffers, lists and dictionaries."""
    kept = []
    for part in list(module.modules()):
        own = part.__dict__
        lists = {name: list(item) for name, item in own.items() if type(item) is list}
        tables = {name: dict(item) for name, item in own.items() if type(item) is dict}
        kept.append((part, dict(own), lists, tables, part.training))
    try:
        yield
    finally:
        for part, own, lists, tables, training in kept:
            part.__dict__.clear()
            part.__dict__.update(own)
            if part.training != training:
                part.training = training  # of a scripted module, which keeps it elsewhere
            for name, entries in lists.items():
                own[name][:] = entries
            for name, table in tables.items():
                own[name].clear()
                own[name].update(table)


def place_of(module: Any) -> str:
    """The device a module's inputs belong on: that of its first tensor, the processor for one without memory."""
    for tensor in _tensors(module):
        return "cpu" if tensor.device.type == "meta" else str(tensor.device)
    return "cpu"


def floating_of(module: Any) -> str:
    """The dtype of a module's first floating parameter, float32 without one."""
    for tensor in module.parameters():
        if tensor.dtype.is_floating_point:
            return str(tensor.dtype).removeprefix("torch.")
    return "float32"


def in_mode(module: Any, mode: Any) -> None:
    """Give a module fake tensors of `mode` in place of those that fit no input.

    Those are tensors of another fake mode (copying a module copies its mode) and those on the meta
    device, which become tensors of the processor.
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensor

    made: dict[int, Any] = {}

    def there(tensor: Any) -> Any:
        foreign = isinstance(tensor, FakeTensor) and tensor.fake_mode is not mode
        if tensor is None or not (foreign or tensor.device.type == "meta"):
            return tensor
        if id(tensor) not in made:
            with mode, torch.no_grad():
                device = "cpu" if tensor.device.type == "meta" else tensor.device
                fake = torch.empty_strided(tuple(tensor.shape), tensor.stride(), dtype=tensor.dtype, device=device)
                is_parameter = isinstance(tensor, torch.nn.Parameter)
                made[id(tensor)] = torch.nn.Parameter(fake, tensor.requires_grad) if is_parameter else fake
        return made[id(tensor)]

    for part in module.modules():
        part.__dict__["_parameters"] = {name: there(tensor) for name, tensor in part._parameters.items()}
        part.__dict__["_buffers"] = {name: there(tensor) for name, tensor in part._buffers.items()}
        for name, item in list(part.__dict__.items()):
            if isinstance(item, torch.Tensor):
                part.__dict__[name] = there(item)


def fake_arguments(
    given: Arguments, mode: Any, *, floating: str, device: str
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The tensors a module is called with, without memory."""
    import torch

    def there(item: Structure) -> Any:
        if isinstance(item, Given):
            dtype = getattr(torch, item.dtype or floating)
            if item.strides:
                return torch.empty_strided(item.shape, item.strides, dtype=dtype, device=device)
            return torch.empty(item.shape, dtype=dtype, device=device)
        if type(item) in (list, tuple):
            return type(item)(there(part) for part in item)
        if isinstance(item, dict):
            return {name: there(part) for name, part in item.items()}
        return item

    with mode:
        positional = tuple(there(item) for item in given.positional)
        return positional, {name: there(item) for name, item in given.named.items()}
