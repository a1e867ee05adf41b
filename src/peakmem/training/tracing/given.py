"""The user's own training step: `package.module:name`, or the objects themselves. Imported with torch at hand.

A name may stand for, or give when it is called without arguments:

| what | how it is stepped |
| --- | --- |
| a callable | it is one whole step; so is a name whose call gives nothing of this table |
| a mapping or an object with `step` | `step` is one whole step; `model`, `optimizer` beside it are known by name |
| a mapping or an object with `model`, and `loss`, `optimizer`, `batch` where there are | put together as a loop |
| a tuple (model, loss, optimizer, batch) or shorter | the same |
| a torch.nn.Module | the same, with the inputs that the user tells |

`loss` is called with the model's result and, when the batch holds targets, with these. A batch is a pair (inputs,
targets), or a mapping that is passed by name; a model whose result has a `loss` needs none.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch

from peakmem.errors import UsageError
from peakmem.frontends.live import resolved
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.blocks import blocks_of
from peakmem.training.tracing.step import Parts, Workload

NAMES = ("step", "model", "loss", "optimizer", "batch")
LOSS = "the loss: the model's own, else cross entropy where there are targets, else the sum of its result"
EXPECTED = "a step to call, a model with its loss and batch, or a mapping with step, model, loss, optimizer, batch"
HINT = "a function make_step() that returns the function which runs one training step"


@dataclass(frozen=True, slots=True)
class Given:
    """A workload of the user's own."""

    name: str
    source: Any
    scenario: Scenario
    inputs: Any = None

    def build(self) -> Parts:
        """See `step.Workload`."""
        for size in ("sequence", "resolution"):
            if getattr(self.scenario, size) is not None:
                raise UsageError(
                    f"the {size} is in its own code", where=self.name, expected="a factory that makes the batch so",
                    hint="another function, with a batch of that size",
                )  # fmt: skip
        with torch.device(self.scenario.device):
            made = _made(self.source, self.name)
            if isinstance(made, Parts):
                return made
            parts = _named(made, self.name)
            if isinstance(made, torch.nn.Module):
                parts.model = made
                parts.batch = _inputs(made, self.inputs, self.scenario, self.name)
            return _parts(parts, self.scenario, self.name)


def workload(source: Any, scenario: Scenario, *, inputs: Any = None) -> Workload:
    """A workload from `package.module:name` or an object, see the table above."""
    if isinstance(source, str):
        return Given(source, resolved(source), scenario, inputs)
    return Given(str(getattr(source, "__name__", type(source).__name__)), source, scenario, inputs)


def _made(found: Any, name: str) -> Any:
    """What a factory gives; objects that are there already are copied, so that nothing happens to them."""
    if isinstance(found, torch.nn.Module | Mapping | tuple) or not callable(found):
        return copy.deepcopy(found)
    needed = _needed(found)
    if needed:
        raise UsageError(
            f"it cannot be called without arguments: it wants {', '.join(needed)}", where=name, expected=EXPECTED,
            hint=HINT,
        )  # fmt: skip
    made = found()
    kept = callable(made) or isinstance(made, Mapping | tuple | Parts)
    if kept or any(hasattr(made, key) for key in ("step", "model")):
        return made
    return found  # it was a step itself


def _needed(function: Any) -> list[str]:
    """Parameters of a function that have no default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return []
    named = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [one.name for one in parameters if one.default is one.empty and one.kind not in named]


def _named(made: Any, name: str) -> SimpleNamespace:
    parts = SimpleNamespace(**dict.fromkeys(NAMES))
    if isinstance(made, Mapping):
        unknown = [key for key in made if key not in NAMES]
        if unknown:
            raise UsageError(f"{unknown[0]!r} is none of the parts of a step", where=name, expected=", ".join(NAMES))
        parts.__dict__.update(made)
    elif isinstance(made, torch.nn.Module):
        pass
    elif isinstance(made, tuple) and made and isinstance(made[0], torch.nn.Module):
        for item in made:
            parts.__dict__[_kind(item, name)] = item
    elif any(hasattr(made, key) for key in ("step", "model")):
        parts.__dict__.update({key: getattr(made, key) for key in NAMES if hasattr(made, key)})
    elif callable(made):
        parts.step = made
    else:
        raise UsageError(f"{name} gives an object of type {type(made).__name__}", expected=EXPECTED, hint=HINT)
    return parts


def _kind(item: Any, name: str) -> str:
    if isinstance(item, torch.optim.Optimizer):
        return "optimizer"
    if isinstance(item, torch.nn.modules.loss._Loss):
        return "loss"
    if isinstance(item, torch.nn.Module):
        return "model"
    if isinstance(item, torch.Tensor | tuple | list | Mapping):
        return "batch"
    if callable(item):
        return "loss"
    raise UsageError(f"{name} gives an object of type {type(item).__name__} among its parts", expected=EXPECTED)


def _inputs(model: Any, inputs: Any, scenario: Scenario, name: str) -> Any:
    """The tensors that a bare module is called with, as the user told them."""
    from peakmem.frontends.torch.fake import floating_of
    from peakmem.frontends.torch.inputs import Given as Told
    from peakmem.frontends.torch.inputs import arguments

    if inputs is None:
        raise UsageError(
            f"what {type(model).__name__} is called with is not known", where=name,
            hint="--input 1x3x224x224 (NAME=1x128:int64 for inputs by name and dtype)",
        )  # fmt: skip
    told = arguments(inputs)
    if scenario.batch is not None:
        told = told.batched(scenario.batch)
    floating = floating_of(model)

    def there(item: Any) -> Any:
        if isinstance(item, Told):
            dtype = getattr(torch, item.dtype or floating)
            return (torch.empty if dtype.is_floating_point else torch.zeros)(item.shape, dtype=dtype)
        if type(item) in (list, tuple):
            return type(item)(there(part) for part in item)
        return {key: there(part) for key, part in item.items()} if isinstance(item, dict) else item

    if told.named and not told.positional:
        return {key: there(item) for key, item in told.named.items()}
    return (tuple(there(item) for item in told.positional), None)


def _parts(given: SimpleNamespace, scenario: Scenario, name: str) -> Parts:
    if given.step is not None:
        if not callable(given.step):
            raise UsageError(f"the step of {name} cannot be called", expected=EXPECTED)
        return Parts(model=given.model, optimizer=given.optimizer, step=given.step)
    model = given.model
    if not isinstance(model, torch.nn.Module):
        raise UsageError(f"{name} gives neither a step nor a torch.nn.Module", expected=EXPECTED, hint=HINT)
    if given.batch is None:
        raise UsageError(f"{name} gives a model without a batch", expected=EXPECTED, hint=HINT)
    model.train()
    if scenario.device != "cpu":
        model.to(scenario.device)
    batch = given.batch if scenario.batch is None else _of(scenario.batch, given.batch)
    run = _forward(model, batch)
    criterion, targets = given.loss, _targets(batch)

    def loss() -> Any:
        result = run()
        return _loss_of(result, criterion, targets), result

    samples = next((item.shape[0] for item in _tensors(batch) if item.dim()), 1)
    return Parts(
        model=model, loss=loss, optimizer=given.optimizer, blocks=tuple(blocks_of(model)), samples=samples,
        notes=() if criterion else (LOSS,),
    )  # fmt: skip


def _forward(model: Any, batch: Any) -> Callable[[], Any]:
    if isinstance(batch, Mapping):
        return lambda: model(**batch)
    inputs = batch[0] if isinstance(batch, tuple | list) and len(batch) == 2 else batch
    if isinstance(inputs, Mapping):
        return lambda: model(**inputs)
    return lambda: model(*inputs) if isinstance(inputs, tuple | list) else model(inputs)


def _of(samples: int, batch: Any) -> Any:
    """A batch like this one of so many samples: tensors whose first dimension is the batch's get it."""
    from torch.utils._pytree import tree_map

    before = next((item.shape[0] for item in _tensors(batch) if item.dim()), 0)

    def there(item: Any) -> Any:
        if not isinstance(item, torch.Tensor) or not item.dim() or item.shape[0] != before:
            return item
        return torch.empty((samples, *item.shape[1:]), dtype=item.dtype, device=item.device)

    return tree_map(there, dict(batch) if isinstance(batch, Mapping) else batch)


def _targets(batch: Any) -> Any:
    return batch[1] if isinstance(batch, tuple | list) and len(batch) == 2 else None


def _tensors(batch: Any) -> list[Any]:
    from torch.utils._pytree import tree_leaves

    leaves = tree_leaves(dict(batch) if isinstance(batch, Mapping) else batch)
    return [item for item in leaves if isinstance(item, torch.Tensor)]


def _loss_of(result: Any, criterion: Any, targets: Any) -> Any:
    if criterion is not None:
        return criterion(result, targets) if targets is not None else criterion(result)
    own = getattr(result, "loss", None)
    if own is None and isinstance(result, Mapping):
        own = result.get("loss")
    if own is not None:
        return own
    first = next((item for item in _tensors([result]) if item.is_floating_point()), None)
    if first is None:
        raise UsageError("the model gives no floating tensor to take a loss of", expected=EXPECTED)
    if targets is not None and not targets.is_floating_point():
        return torch.nn.functional.cross_entropy(first, targets)
    return first.float().sum() if targets is None else torch.nn.functional.mse_loss(first, targets)
