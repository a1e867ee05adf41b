"""How parts are built: on the scenario's device, in its dtype, without filling what has no memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch._guards import detect_fake_mode
from torch.nn import init
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter

from peakmem.errors import UsageError
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.blocks import blocks_of
from peakmem.training.tracing.step import Parts

DTYPES = {"bf16": torch.bfloat16, "bf16-master": torch.bfloat16, "fp16": torch.float16}
# of parameters and inputs, by precision; float32 for the rest


@contextmanager
def building(scenario: Scenario) -> Iterator[torch.dtype]:
    """Tensors are made on the scenario's device, floats in its dtype; the dtype."""
    dtype = DTYPES.get(scenario.precision, torch.float32)
    before = torch.get_default_dtype()
    with ExitStack() as stack:
        stack.enter_context(torch.device(scenario.device))
        if detect_fake_mode() is not None:
            stack.enter_context(unfilled())
            stack.enter_context(_Schedules())
        torch.set_default_dtype(dtype)
        try:
            yield dtype
        finally:
            torch.set_default_dtype(before)


def made(build: Callable[[], Any], scenario: Scenario) -> Any:
    """A model; one whose frozen weights are quantised never has them in their wide dtype, layer by layer or whole.

    Libraries load such a network one weight at a time; here it is made without memory and gets its own afterwards.
    """
    if scenario.lora is None or not scenario.lora.quantised:
        return build()
    from peakmem.training.networks.lora import last_layer
    from peakmem.training.networks.nf4 import quantise

    with torch.device("meta"), unfilled():
        model = build()
    quantise(model, torch.device(scenario.device), last_layer(model))
    return model


@contextmanager
def unfilled() -> Iterator[None]:
    """The functions of `torch.nn.init` leave tensors as they are; they write in place and leave nothing behind."""
    kept = {name: getattr(init, name) for name in dir(init) if name.endswith("_") and not name.startswith("_")}

    def leave(tensor: Any, *_args: Any, **_settings: Any) -> Any:
        return tensor

    for name in kept:
        setattr(init, name, leave)
    try:
        yield
    finally:
        for name, function in kept.items():
            setattr(init, name, function)


class _Schedules(TorchDispatchMode):
    """Rows of rates (`torch.linspace`) are real, on the processor, and what is made of them: code reads them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten.linspace.default:
            return self._real(func, args, kwargs | {"device": torch.device("cpu")})
        given = [item for item in tree_iter((args, kwargs)) if isinstance(item, torch.Tensor)]
        if given and all(hasattr(item, "peakmem_row") for item in given):
            return self._real(func, args, kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _real(func: Any, args: Any, kwargs: Any) -> Any:
        with _disable_current_modes():
            result = func(*args, **kwargs)
        for item in tree_iter(result):
            if isinstance(item, torch.Tensor):
                item.peakmem_row = True
        return result


def only(taken: str, scenario: Scenario, name: str) -> None:
    """See that of the sizes of a sample only this one is asked for.

    Raises:
        UsageError: the network has no such size.
    """
    for size in ("sequence", "resolution"):
        if size != taken and getattr(scenario, size) is not None:
            raise UsageError(
                f"it has no {size} to be asked for", where=name, hint=f"--{taken} N" if taken else "--batch N"
            )


def finished(model: Any, loss: Callable[[], Any], samples: int, notes: tuple[str, ...]) -> Parts:
    """The parts of a model in training."""
    model.train()
    own = getattr(model, "repeated", None)
    # a class, where the network says itself what is repeated
    found = blocks_of(model) if own is None else [path for path, item in model.named_modules() if type(item) is own]
    return Parts(model=model, loss=loss, blocks=tuple(found), samples=samples, notes=notes)


def taken(options: dict[str, Any], known: tuple[str, ...], name: str) -> dict[str, Any]:
    """The options, all of them known.

    Raises:
        UsageError: one that the network does not have.
    """
    for option in options:
        if option not in known:
            raise UsageError(f"{name} has no option {option!r}", expected=", ".join(known) or "none")
    return options
