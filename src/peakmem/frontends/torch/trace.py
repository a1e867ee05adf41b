"""A dispatch trace: run a module on fake tensors and write down each ATen operator that runs.

Used where torch.export refuses. Operators are those below autograd, so composite ones appear as
their parts. Imported with torch at hand.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch._ops import HigherOrderOperator
from torch._subclasses.fake_tensor import FakeTensor
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_iter

from peakmem.frontends.torch.export import plain
from peakmem.frontends.torch.program import Argument, Call, Program, Ref, Stored, Value
from peakmem.frontends.torch.pt2_program import Sizes
from peakmem.frontends.torch.values import stored_as, value_of

DEEPEST, MOST_PARTS = 6, 100_000
# how far a result is looked into, and how many objects


def trace(module: Any, mode: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> Program:
    """The program of one call on fake tensors, operator by operator as it ran."""
    recorder = _Recorder(module, mode)
    given = [item for item in tree_iter((positional, dict(named))) if isinstance(item, torch.Tensor)]
    names = _argument_names(module, positional, named)
    inputs = [recorder.know(item, names.get(id(item), f"input_{at}")) for at, item in enumerate(given)]
    entered, left = _followers(recorder)
    try:
        with torch.no_grad(), mode, recorder:
            result = module(*positional, **named)
    finally:
        entered.remove()
        left.remove()
    outputs = [recorder.reference(item) for item in _held(result)]
    return Program(
        tuple(dict.fromkeys(inputs)), tuple(outputs), tuple(recorder.calls), recorder.values, recorder.stored,
        hints=dict(recorder.sizes.hints),
    )  # fmt: skip


def _held(result: Any) -> list[Any]:
    """Tensors that a result keeps alive, those inside of objects such as a cache included."""
    found: list[Any] = []
    seen: set[int] = set()
    pending = [(item, 0) for item in tree_iter(result)]
    while pending and len(seen) < MOST_PARTS:
        item, depth = pending.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, torch.Tensor):
            found.append(item)
        elif depth < DEEPEST:
            parts = item.values() if isinstance(item, dict) else item if isinstance(item, list | tuple) else ()
            own = getattr(item, "__dict__", {}) if type(item).__module__ != "builtins" else {}
            pending += [(part, depth + 1) for part in (*parts, *own.values())]
    return found[::-1]


def _followers(recorder: _Recorder) -> tuple[Any, Any]:
    """Hooks that keep the path of the module that is running."""

    def enter(part: Any, _: Any) -> None:
        recorder.paths.append(recorder.path_of.get(id(part), recorder.paths[-1]))

    def leave(_part: Any, _given: Any, _result: Any) -> None:
        recorder.paths.pop()

    return hooks.register_module_forward_pre_hook(enter), hooks.register_module_forward_hook(leave)


def _argument_names(module: Any, positional: tuple[Any, ...], named: Mapping[str, Any]) -> dict[int, str]:
    """What forward calls each tensor it is given."""
    import inspect

    try:
        formal = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        formal = []
    plain_names = [item.name for item in formal if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    found: dict[int, str] = {}
    pairs = [*zip(plain_names, positional, strict=False), *named.items()]
    for name, item in pairs:
        tensors = [part for part in tree_iter(item) if isinstance(part, torch.Tensor)]
        for at, part in enumerate(tensors):
            found.setdefault(id(part), name if len(tensors) == 1 else f"{name}_{at}")
    return found


def _run(func: Any, args: Any, kwargs: Any) -> Any:
    """What an operator gives; grouped products of any dtype, which on fake tensors are known for bfloat16 alone."""
    if func is not torch.ops.aten._grouped_mm.default or args[0].dtype == torch.bfloat16:
        return func(*args, **kwargs)
    a, b, *rest = args
    return func(a.bfloat16(), b.bfloat16(), *rest, **kwargs).to(kwargs.get("out_dtype") or a.dtype)


class _Recorder(TorchDispatchMode):
    """Writes down calls; holds every tensor it has seen, so that none is taken for another."""

    supports_higher_order_operators = True

    def __init__(self, module: Any, mode: Any) -> None:
        super().__init__()
        self.mode = mode
        self.sizes = Sizes()
        self.values: dict[str, Value] = {}
        self.stored: dict[str, Stored] = {}
        self.calls: list[Call] = []
        self.paths = [""]
        self.path_of = {id(part): path for path, part in module.named_modules()}
        self.names: dict[int, str] = {}
        self.seen: list[Any] = []
        self.kept: list[Any] = []
        self.counts: dict[str, int] = {}
        self.objects: dict[int, Argument] = {}
        for form, tensors in (("parameter", module.named_parameters), ("buffer", module.named_buffers)):
            for path, tensor in tensors(remove_duplicate=False):
                if id(tensor) in self.names:
                    continue  # tied: one tensor under two names
                place = self.know(tensor, path)
                self.stored[place] = stored_as(tensor, path, form)  # type: ignore[arg-type]

    def know(self, tensor: Any, base: str) -> str:
        """Name a tensor, and remember it under that name."""
        number = self.counts.get(base, 0)
        self.counts[base] = number + 1
        name = base if not number else f"{base}#{number}"
        self.names[id(tensor)] = name
        self.seen.append(tensor)
        self.values[name] = value_of(tensor, self.sizes, self.kept)
        return name

    def reference(self, tensor: Any) -> str:
        """The name of a tensor; one that was never seen is a constant of the module."""
        found = self.names.get(id(tensor))
        if found is None:
            found = self.know(tensor, "constant")
            self.stored[found] = Stored(found, "constant")
        return found

    def known(self, tensor: Any) -> bool:
        """Whether a tensor is one of the module's own with real content that no call has written on."""
        if isinstance(tensor, FakeTensor) or tensor.is_meta or tensor.device.type != "cpu":
            return False
        name = self.names.get(id(tensor))
        written = (next(call.refs(), "") for call in self.calls if call.op.endswith("_"))
        return name in self.stored and name not in written

    def inside(self, thing: Any) -> Argument:
        """Tensors that an object of a custom class holds, as packed weights of quantised layers do."""
        if id(thing) not in self.objects:
            with _disable_current_modes():
                try:
                    state = thing.__getstate__()
                except (RuntimeError, AttributeError):
                    state = None
                tensors = [item for item in tree_iter(state) if isinstance(item, torch.Tensor)]
            names = []
            for item in tensors:
                place = self.know(item, "packed")
                self.stored[place] = stored_as(item, place, "constant")
                names.append(place)
            self.objects[id(thing)] = tuple(Ref(name) for name in names)
            self.seen.append(thing)
        return self.objects[id(thing)]

    def argument(self, value: Any) -> Argument:
        if isinstance(value, torch.Tensor):
            return Ref(self.reference(value))
        if isinstance(value, list | tuple):
            return tuple(self.argument(part) for part in value)
        if isinstance(value, torch.ScriptObject):
            return self.inside(value)
        return plain(value, self.sizes)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default and self.known(args[0]):
            with _disable_current_modes():
                return func(*args, **kwargs)
        if isinstance(func, HigherOrderOperator):
            pairs = [*(("", value) for value in args), *kwargs.items()]
            namespace, op, overload = "higher_order", str(func.__name__), ""
        else:
            pairs = [*zip((argument.name for argument in func._schema.arguments), args, strict=False), *kwargs.items()]
            namespace, op, overload = func.namespace, func._opname, func._overloadname
        arguments = tuple((name, self.argument(value)) for name, value in pairs)
        result = _run(func, args, kwargs)
        outputs = []
        for item in tree_iter(result):
            outputs.append(self.know(item, op) if isinstance(item, torch.Tensor) else "")
        name = f"{op}@{len(self.calls)}"
        self.calls.append(Call(name, namespace, op, overload, arguments, tuple(outputs), self.paths[-1]))
        return result
