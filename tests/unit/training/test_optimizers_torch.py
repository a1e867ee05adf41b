"""Layouts of optimizers against the optimizers: every allocation and every release of the first steps, in order.

Expected events come from PyTorch's profiler, from lion-pytorch, bitsandbytes and transformers where they are there.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.unit.training.optimizer_events import real, transformers_adafactor, written

from peakmem.training import account, networks
from peakmem.training.log import Log
from peakmem.training.optimizers import Parameter, with_none_gradients, with_optimizer, with_zeroed_gradients
from peakmem.training.scenario import Optimizer, Scenario

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(
    not torch.__version__.startswith("2.13."), reason="the order of events was read from torch 2.13"
)


def _list(*shapes: tuple[int, ...], dtypes: tuple[str, ...] = ("float32",), frozen: tuple[int, ...] = ()) -> Any:
    return [Parameter(f"p{at}", shape, dtypes[at % len(dtypes)], at not in frozen) for at, shape in enumerate(shapes)]


LISTS = {
    "one big": _list((512, 300)),
    "many": _list(*((3 + at, 2) if at % 2 else (at + 1,) for at in range(24))),
    "scalars and empty": _list((5, 3), (), (0, 4), (1,), (7,)),
    "mixed": _list((5, 3), (7,), (2, 3), (3,), (4, 4), dtypes=("float32", "bfloat16", "float64", "float16")),
    "half": _list((5, 3), (7,), (2, 3, 4), dtypes=("bfloat16",)),
    "some frozen": _list((5, 3), (7,), (2, 3), (3,), frozen=(0, 2)),
    "channels": _list((8, 3, 3, 3), (8,), (4, 8, 1, 1)),
}
_ALL = ("single", "foreach", "fused")
OPTIONS: dict[str, tuple[tuple[str, ...], tuple[dict[str, Any], ...]]] = {
    "sgd": (_ALL, (
        {}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True}, {"momentum": 0.9},
        {"momentum": 0.9, "nesterov": True}, {"momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1},
        {"momentum": 0.9, "nesterov": True, "weight_decay": 0.1, "maximize": True},
    )),
    "adam": (_ALL, (
        {}, {"amsgrad": True}, {"weight_decay": 0.1}, {"weight_decay": 0.1, "maximize": True, "amsgrad": True},
    )),
    "adamw": (_ALL, ({}, {"weight_decay": 0.0, "maximize": True}, {"amsgrad": True})),
    "rmsprop": (_ALL[:2], (
        {}, {"momentum": 0.9}, {"centered": True}, {"weight_decay": 0.1, "maximize": True},
        {"weight_decay": 0.1, "momentum": 0.9, "centered": True},
    )),
    "adagrad": (_ALL, ({}, {"weight_decay": 0.1}, {"maximize": True}, {"weight_decay": 0.1, "maximize": True})),
    "adafactor": (_ALL[:2], ({}, {"weight_decay": 0.1}, {"maximize": True})),
}  # fmt: skip
FLAGS = {"single": {"foreach": False}, "foreach": {"foreach": True}, "fused": {"fused": True}}
CLASSES = {
    "sgd": "SGD",
    "adam": "Adam",
    "adamw": "AdamW",
    "rmsprop": "RMSprop",
    "adagrad": "Adagrad",
    "adafactor": "Adafactor",
}


def _asked(kind: str, implementation: Any, options: dict[str, Any]) -> Optimizer:
    return Optimizer(kind, implementation, tuple(options.items()))


def _filled() -> dict[str, list[Parameter]]:
    """Without empty parameters: Adafactor divides by the number of elements."""
    return {name: items for name, items in LISTS.items() if all(one.elements for one in items)}


def _compare(cases: list[tuple[str, Any, Optimizer, list[Parameter]]], *, build: bool = True) -> None:
    """Each case is told, made, and asked of the layouts."""
    found = real([(make, parameters) for _, make, _, parameters in cases], build=build)
    for (told, _, optimizer, parameters), expected in zip(cases, found, strict=True):
        assert written(optimizer, parameters, build=build) == expected, told


@pytest.mark.parametrize(
    ("kind", "implementation"), [(kind, name) for kind, (names, _) in OPTIONS.items() for name in names]
)
def test_events_are_those_of_torch(kind: str, implementation: str):
    make, flag = getattr(torch.optim, CLASSES[kind]), FLAGS[implementation]
    _compare([
        (f"{options} {name}", partial(make, **flag, **options), _asked(kind, implementation, options), items)
        for options in OPTIONS[kind][1]
        for name, items in (_filled() if kind == "adafactor" else LISTS).items()
    ])  # fmt: skip


def test_default_implementations_are_torchs():
    _compare([(kind, getattr(torch.optim, name), Optimizer(kind), LISTS["many"]) for kind, name in CLASSES.items()])


@pytest.mark.parametrize("implementation", ["single", "foreach"])
def test_events_are_those_of_lion_pytorch(implementation: str):
    pytest.importorskip("lion_pytorch")
    from lion_pytorch import Lion
    from lion_pytorch.foreach import Lion as ForeachLion

    make = Lion if implementation == "single" else ForeachLion
    _compare([
        (f"{options} {name}", partial(make, **options), _asked("lion", implementation, options), items)
        for options in ({}, {"weight_decay": 0.1})
        for name, items in LISTS.items()
    ])  # fmt: skip


def test_events_are_those_of_the_adafactor_of_transformers():
    make = transformers_adafactor()
    if make is None:
        pytest.skip("transformers is not installed")
    cases = (
        ({}, {}),
        ({"beta1": 0.9, "weight_decay": 0.1}, {"first_moment": True, "weight_decay": 0.1}),
        ({"lr": 1e-3, "relative_step": False, "scale_parameter": False, "weight_decay": 0.1}, {"scaled": False}),
    )
    _compare([
        (f"{options} {name}", partial(make, **options), _asked("adafactor-transformers", None, asked), items)
        for options, asked in cases
        for name, items in _filled().items()
    ])  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "options"),
    [
        ("adam8bit", "Adam8bit", {}),
        ("adamw8bit", "AdamW8bit", {}),
        ("lion8bit", "Lion8bit", {}),
        ("lion8bit", "Lion8bit", {"weight_decay": 0.1}),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_steps_are_those_of_bitsandbytes(kind: str, name: str, options: dict[str, Any]):
    optimizers = pytest.importorskip("bitsandbytes", exc_type=ImportError).optim
    big = [*_list((70, 70), (5,), (4096,), (64, 63)), *_list((64, 65), (7,), dtypes=("bfloat16",))]
    parameters = [item._replace(name=f"p{at}") for at, item in enumerate(big)]
    make = partial(getattr(optimizers, name), **options)
    _compare([(kind, make, _asked(kind, None, options), parameters)], build=False)


@pytest.mark.slow
def test_an_optimizer_put_into_a_traced_log_is_the_traced_one():
    """A network traced with SGD and given another optimizer, beside the network traced with that optimizer."""
    traced = pytest.importorskip("peakmem.training.tracing.run").trace

    def log(optimizer: Optimizer, *, set_to_none: bool = True) -> Log:
        scenario = Scenario(batch=2, optimizer=optimizer, set_to_none=set_to_none)
        return traced(networks.workload("resnet18", scenario), scenario)

    plain = log(Optimizer("sgd"))
    for asked in (Optimizer("momentum", "single"), Optimizer("adamw", "foreach"), Optimizer("rmsprop", "single")):
        found, expected = with_optimizer(plain, asked), log(asked)
        assert account.peak(found).nbytes == account.peak(expected).nbytes
        assert account.kept(found) == account.kept(expected)
        assert account.peak(with_optimizer(expected, asked)).nbytes == account.peak(expected).nbytes
    zeroed = log(Optimizer("sgd"), set_to_none=False)
    assert account.peak(with_zeroed_gradients(plain)).nbytes == account.peak(zeroed).nbytes
    assert account.peak(with_none_gradients(zeroed)).nbytes == account.peak(plain).nbytes
