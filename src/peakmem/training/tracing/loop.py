"""A training step put together from a model, its loss and a scenario, as a training loop writes it.

Imported with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

import torch

from peakmem.errors import UsageError
from peakmem.training.scenario import Optimizer, Scenario
from peakmem.training.tracing.blocks import blocks_of
from peakmem.training.tracing.hidden import recomputed
from peakmem.training.tracing.step import Parts

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "bf16-master": torch.bfloat16}
AUTOCAST = {"amp-bf16": torch.bfloat16, "amp-fp16": torch.float16}

# torch's optimizers by the names of a scenario: class, what it is given, whether it has a fused implementation
OPTIMIZERS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "sgd": ("SGD", {"lr": 1e-3}, True),
    "momentum": ("SGD", {"lr": 1e-3, "momentum": 0.9}, True),
    "adam": ("Adam", {"lr": 1e-3}, True),
    "adamw": ("AdamW", {"lr": 1e-3}, True),
    "rmsprop": ("RMSprop", {"lr": 1e-3}, False),
    "adagrad": ("Adagrad", {"lr": 1e-3}, True),
    "adafactor": ("Adafactor", {"lr": 1e-3}, False),
}


def optimizer_of(parameters: Any, wanted: Optimizer) -> Any:
    """A torch optimizer over these parameters.

    Raises:
        UsageError: none of torch's has this name or this implementation.
    """
    known = OPTIMIZERS.get(wanted.name)
    if known is None:
        raise UsageError(
            f"torch has no optimizer {wanted.name!r}", expected=f"one of {', '.join(sorted(OPTIMIZERS))}",
            hint="--optimizer adamw",
        )  # fmt: skip
    title, given, fuses = known
    options = dict(given)
    if wanted.implementation == "fused":
        if not fuses:
            raise UsageError(f"{title} has no fused implementation", expected="single or foreach")
        options["fused"] = True
    elif wanted.implementation is not None:
        options["foreach"] = wanted.implementation == "foreach"
    return getattr(torch.optim, title)(parameters, **options)


def assembled(parts: Parts, scenario: Scenario) -> Callable[[], Any]:
    """One training step, see `step.assemble`."""
    if parts.step is not None:
        return _under(parts, scenario)
    if parts.loss is None:
        raise UsageError("there is no loss to train with", expected="a step, or a model with its loss")
    model = parts.model
    if model is not None:
        if scenario.precision in DTYPES:
            model.to(DTYPES[scenario.precision])
        _changed(model, parts, scenario)
    optimizer = parts.optimizer
    if optimizer is None:
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not trainable:
            raise _nothing_trained(model, scenario)
        optimizer = optimizer_of(trainable, scenario.optimizer or Optimizer())
    loss_of, clear = parts.loss, scenario.set_to_none
    wide = AUTOCAST.get(scenario.precision)
    scaler = torch.amp.GradScaler(scenario.device) if scenario.precision == "amp-fp16" else None

    def step() -> Any:
        optimizer.zero_grad(set_to_none=clear)
        loss, result = None, None
        for _ in range(scenario.accumulate):
            with torch.autocast(scenario.device, dtype=wide) if wide is not None else nullcontext():
                result = loss_of()
            loss = result[0] if isinstance(result, tuple) else result
            (scaler.scale(loss) if scaler is not None else loss).backward()
        if scaler is not None:
            scaler.step(optimizer)
            scaler.update()
        else:
            optimizer.step()
        return loss

    return step


def _under(parts: Parts, scenario: Scenario) -> Callable[[], Any]:
    """A whole step of the user's own under what can be asked of it from outside.

    Raises:
        UsageError: what only the step itself could change.
    """
    model, own = parts.model, parts.step
    assert own is not None
    inside = {"freeze": bool(scenario.freeze), "lora": scenario.lora is not None}
    for what, wanted in inside.items():
        if wanted and model is None:
            raise UsageError(
                f"{what} needs the model, and the step hides it", hint='return {"step": step, "model": model} instead'
            )
    if scenario.accumulate != 1 or scenario.precision in DTYPES or scenario.batch is not None:
        raise UsageError(
            "batch, accumulation and the dtype of parameters are the step's own",
            expected="a model with loss and batch",
            hint='return {"model": model, "loss": loss, "batch": (inputs, targets)} instead',
        )  # fmt: skip
    if model is not None:
        _changed(model, replace(parts, blocks=parts.blocks or tuple(blocks_of(model))), scenario)
    wide = AUTOCAST.get(scenario.precision)

    def step() -> Any:
        with ExitStack() as stack:
            if wide is not None:
                stack.enter_context(torch.autocast(scenario.device, dtype=wide))
                stack.enter_context(_narrow_forward_only(scenario.device))
            if not scenario.set_to_none:
                stack.enter_context(_zeros_kept())
            if scenario.recompute and model is None:
                stack.enter_context(recomputed(lambda met: _recompute(met, _blocks(met), scenario.recompute)))
            return own()

    return step


def _nothing_trained(model: Any, scenario: Scenario) -> UsageError:
    if next(model.parameters(), None) is None:
        return UsageError(f"{type(model).__name__} has no parameters, so that nothing is trained")
    return UsageError(
        "no parameter is trained: all are frozen", expected="one with requires_grad",
        hint="--freeze with fewer names" if scenario.freeze else "",
    )  # fmt: skip


@contextmanager
def _narrow_forward_only(device: str) -> Iterator[None]:
    """A backward inside runs as outside of autocast, where one belongs: what it cast and kept is given back before."""
    engine = torch.autograd._engine_run_backward

    def run(*args: Any, **kwargs: Any) -> Any:
        torch.clear_autocast_cache()
        with torch.autocast(device, enabled=False):
            return engine(*args, **kwargs)

    torch.autograd._engine_run_backward = run
    try:
        yield
    finally:
        torch.autograd._engine_run_backward = engine


@contextmanager
def _zeros_kept() -> Iterator[None]:
    """Gradients are filled with zeros instead of being given back."""
    clear = torch.optim.Optimizer.zero_grad

    def kept(self: Any, *_args: Any, **_kwargs: Any) -> None:
        clear(self, set_to_none=False)

    torch.optim.Optimizer.zero_grad = kept
    try:
        yield
    finally:
        torch.optim.Optimizer.zero_grad = clear


def _changed(model: Any, parts: Parts, scenario: Scenario) -> None:
    """Put the model itself under a scenario: adapters, frozen parameters, recompute."""
    if scenario.lora is not None:
        from peakmem.training.networks import lora

        lora.apply(model, scenario.lora)
    _freeze(model, scenario)
    if scenario.recompute:
        _recompute(model, parts, scenario.recompute)


def _freeze(model: Any, scenario: Scenario) -> None:
    for pattern in scenario.freeze:
        hit = False
        for name, parameter in model.named_parameters():
            if fnmatchcase(name, pattern) or name.startswith(pattern + "."):
                parameter.requires_grad_(False)
                hit = True
        if not hit:
            raise UsageError(f"no parameter is called {pattern!r}", hint="--freeze 'layer1.*' (a pattern of names)")


def chosen_blocks(model: Any, parts: Parts, recompute: str) -> list[str]:
    """Paths of the modules that drop what they saved and run again in the backward.

    Raises:
        UsageError: nothing in the model is meant.
    """
    if recompute == "blocks":
        paths = list(parts.blocks)
    elif recompute.startswith("every-"):
        count = recompute.removeprefix("every-")
        every = int(count) if count.isdecimal() and len(count) < 10 else 0
        if not every:
            raise UsageError(
                f"recompute {recompute!r} is not understood", expected="every-K, K from 1 on",
                hint="--recompute every-2",
            )  # fmt: skip
        paths = list(parts.blocks)[::every]
    else:
        paths = [path for path, _ in model.named_modules() if path and fnmatchcase(path, recompute)]
    if not paths:
        raise UsageError(
            f"no module is meant by recompute {recompute!r}", hint="--recompute 'layers.*' (a pattern of module paths)"
        )
    return paths


def _blocks(model: Any) -> Parts:
    return Parts(model=model, blocks=tuple(blocks_of(model)))


def _recompute(model: Any, parts: Parts, recompute: str) -> list[Any]:
    """Put blocks under recompute; which."""
    from torch.utils.checkpoint import checkpoint

    modules, changed = dict(model.named_modules()), []
    for path in chosen_blocks(model, parts, recompute):
        module = modules[path]
        forward = module.forward

        def again(*args: Any, _forward: Any = forward, **kwargs: Any) -> Any:
            if not torch.is_grad_enabled():
                return _forward(*args, **kwargs)
            return checkpoint(_forward, *args, use_reentrant=False, **kwargs)

        module.forward = again
        changed.append(module)
    return changed
