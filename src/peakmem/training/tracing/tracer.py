"""A training step written down while it runs: one dispatch mode that sees each ATen operator and each storage's end.

Works on fake tensors, where nothing is computed, and on real ones, where it tells categories. What PyTorch does
differently because it is watched is undone by `corrections`; what kernels take inside comes from
`training.workspaces`. Imported with torch at hand.
"""

from __future__ import annotations

import weakref
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.utils._python_dispatch import (
    TorchDispatchMode,
    is_traceable_wrapper_subclass,
    is_traceable_wrapper_subclass_type,
)
from torch.utils._pytree import tree_iter
from torch.utils.flop_counter import flop_registry

from peakmem.training import workspaces
from peakmem.training.recorder import Recorder
from peakmem.training.tracing import corrections

RESIZES = frozenset({"resize_", "resize_as_", "set_", "_resize_output_", "resize_storage_bytes_"})
# operators after which a storage may have another size

ONLY_NUMBERS = frozenset(
    {
        "add_", "addcdiv_", "addcmul_", "bernoulli_", "clamp_", "clamp_max_", "clamp_min_", "copy_", "div_", "exp_",
        "fill_", "lerp_", "log_", "maximum_", "mul_", "neg_", "normal_", "pow_", "random_", "reciprocal_", "rsqrt_",
        "sigmoid_", "sqrt_", "sub_", "tanh_", "uniform_", "zero_",
    }
)  # fmt: skip
# operators whose result is their first operand with other numbers in it

KEEP_NUMBERS, NUMBER = frozenset({"aten::mul", "aten::div"}), 8
# operators whose backward asks for a Python number, which autograd keeps as a tensor of 8 bytes (derivatives.yaml)


class Tracer(TorchDispatchMode):
    """Writes storages of one device into a recorder, with the operator and the module that made them."""

    supports_higher_order_operators = True

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """torch would wrap each call to keep its compiler out, and import the compiler for that: seconds of a trace."""
        return False

    def __init__(self, recorder: Recorder, *, device: str, machine: workspaces.Machine | None = None) -> None:
        super().__init__()
        self.recorder, self.device, self.machine = recorder, device, machine
        self.numbers: dict[int, tuple[int, int, Any]] = {}
        # by the address of a storage: its number, its bytes, the reference that tells its end
        self.modules = [""]
        # paths of the modules whose forwards run, the innermost last
        self._since: list[int] = [0]
        self._paths: list[str] = [""]
        # autograd numbers its nodes in the order in which they are made: from which number on it was which module
        self.kept = workspaces.persistent(device, machine.capability) if machine is not None else []
        # what libraries take once, as long as it has not been taken
        self._saved_numbers: dict[int, int] = {}
        # by the number of the node that keeps them
        self._node = -1
        # that runs in a backward

    # Modules ---------------------------------------------------------------------------------------------------

    def enter_module(self, path: str) -> None:
        """The forward of a module begins."""
        self.modules.append(path)
        self._follow()

    def leave_module(self) -> None:
        """The forward of a module ends."""
        if len(self.modules) > 1:
            self.modules.pop()
        self._follow()

    def _follow(self) -> None:
        number = torch._C._autograd._get_sequence_nr()
        if self._since[-1] == number:
            self._paths[-1] = self.modules[-1]
        elif self._since[-1] < number:
            self._since.append(number)
            self._paths.append(self.modules[-1])

    def _module(self) -> str:
        """The module that runs; in a backward the one whose forward made the node that runs."""
        if self.recorder.phase != "backward":
            return self.modules[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return ""
        if len(self.modules) > 1:
            return self.modules[-1]  # a forward that runs again
        number = node._sequence_nr()
        if number != self._node:
            if self._node in self._saved_numbers:
                self.recorder.release(self._saved_numbers.pop(self._node))
            self._node = number
        if number >= 1 << 62:
            return ""  # a gradient is added to a parameter's
        return self._paths[max(bisect_right(self._since, number) - 1, 0)]

    # Storages --------------------------------------------------------------------------------------------------

    def number_of(self, tensor: Any) -> int | None:
        """The number of a tensor's storage; None where it is not one of ours."""
        try:
            found = self.numbers.get(_innermost(tensor).untyped_storage()._cdata)
        except (RuntimeError, NotImplementedError):
            return None
        return found[0] if found is not None else None

    def meet(self, tensor: Any, operator: str, module: str | None = None, *, extra: int = 0) -> tuple[int, bool] | None:
        """Write a tensor's storage down if it is new, `extra` bytes larger than it says; its number, whether it is."""
        tensor = _innermost(tensor)
        if tensor.device.type != self.device:
            return None
        try:
            storage = tensor.untyped_storage()
        except (RuntimeError, NotImplementedError):
            return None  # sparse and opaque tensors have none
        key, nbytes = storage._cdata, storage.nbytes()
        known = self.numbers.get(key)
        if known is not None and known[2]() is storage:
            if known[1] == nbytes:
                return known[0], False
            self.recorder.release(known[0])  # it was given another size
        number = self.recorder.allocate(
            nbytes + extra, operator,
            dtype=str(tensor.dtype).removeprefix("torch."), shape=tuple(tensor.shape), module=module,
        )  # fmt: skip
        if known is not None and known[2]() is storage:
            self.numbers[key] = (number, nbytes, known[2])
        else:
            self.numbers[key] = (number, nbytes, weakref.ref(storage, self._end_of(key)))
        return number, True

    def resized(self, storage: Any) -> None:
        """A storage was given another size, as a sharded model does with what it has gathered."""
        known = self.numbers.get(storage._cdata)
        if known is None or known[1] == storage.nbytes():
            return
        self.recorder.release(known[0])
        number = self.recorder.allocate(storage.nbytes(), "resize_", module=self._module())
        self.numbers[storage._cdata] = (number, storage.nbytes(), known[2])

    def _end_of(self, key: int) -> Any:
        numbers, recorder = self.numbers, self.recorder

        def ended(reference: Any) -> None:
            known = numbers.get(key)
            if known is not None and known[2] is reference:
                del numbers[key]
                recorder.release(known[0])

        return ended

    def forget_numbers(self) -> None:
        """A backward is over: what it kept of Python's numbers goes."""
        for number in self._saved_numbers.values():
            self.recorder.release(number)
        self._saved_numbers.clear()

    # Operators -------------------------------------------------------------------------------------------------

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if types and any(is_traceable_wrapper_subclass_type(kind) for kind in types):
            return NotImplemented  # a tensor made of tensors: its own operators come here one by one
        name = func._schema.name if isinstance(func, torch._ops.OpOverload) else str(func)
        old = corrections.in_place_of(name, args, kwargs, self.recorder.phase)
        result = args[0] if written_over(func, args, kwargs) else func(*args, **kwargs)
        module = self._module()
        count = flop_registry.get(getattr(func, "_overloadpacket", None))
        if count is not None:
            self.recorder.work(_counted(count, args, kwargs, result))
        found = workspaces.find(func, args, kwargs, result, self.device, self.machine)
        if found is not None and (ahead := max(found.before, found.nbytes if old is not None else 0)):
            self.recorder.workspace(ahead, name, module=module, source=found.source)
        new = None
        left = found.left if found is not None else ()
        for at, item in enumerate(_tensors(result)):
            met = self.meet(item, name, module, extra=left[at] if at < len(left) else 0)
            if met is not None and met[1]:
                new = met[0]
        if func.__class__ is torch._ops.OpOverload and func._opname in RESIZES:
            for item in args[:1]:
                if isinstance(item, torch.Tensor):
                    self.meet(item, name, module)
        for kept in workspaces.taken(self.kept, name, backward=self.recorder.phase == "backward"):
            self.recorder.allocate(kept.nbytes, name, category="kernel workspace", module="", source=kept.source)
        if found is None:
            most = workspaces.bound_of(func, args, kwargs, result)
            if most:
                self.recorder.doubt(most, name, "no row in the table of workspaces")
        else:
            if old is None:  # else it came first: the result is written over an operand
                held = NUMBER if name in KEEP_NUMBERS and self._node in self._saved_numbers else 0
                sizes = found.parts or (found.nbytes,)
                sizes = (max(sizes[0] - held, 0), *sizes[1:])  # the number it needs is there already
                self.recorder.workspace(sizes, name, module=module, source=found.source)
            if found.at_most > found.nbytes:
                self.recorder.doubt(found.at_most - found.nbytes, name, found.source)
        if old is not None and new is not None:
            number = self.number_of(old)
            if number is not None:
                self.recorder.may_take_over(new, number)
        if name in KEEP_NUMBERS and self.device == "cpu" and _keeps_number(args):
            made = self.recorder.allocate(NUMBER, name, module=module, category="saved activation")
            self._saved_numbers[torch._C._autograd._get_sequence_nr() - 1] = made
        return result


def written_over(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether a call only writes numbers into its first operand, a fake tensor: then there is nothing to do.

    Running such a call on tensors without numbers takes most of a trace's time.
    """
    if getattr(func, "_opname", "") not in ONLY_NUMBERS:
        return False
    first = args[0]
    return (
        type(first) is FakeTensor
        and first.constant is None
        and all(
            item.shape == first.shape or not item.shape
            for item in (*args[1:], *kwargs.values())
            if isinstance(item, torch.Tensor)
        )
    )


def _keeps_number(args: Any) -> bool:
    return (
        len(args) == 2
        and type(args[1]) in (int, float)
        and isinstance(args[0], torch.Tensor)
        and args[0].requires_grad
        and torch.is_grad_enabled()
    )


def _innermost(tensor: Any) -> Any:
    """The tensor with memory inside of one made of tensors (a sharded one holds its rank's part)."""
    while is_traceable_wrapper_subclass(tensor):
        names, _ = tensor.__tensor_flatten__()
        tensor = getattr(tensor, names[0])
    return tensor


def _counted(count: Any, args: Any, kwargs: Any, result: Any) -> int:
    """Operations of one call; none where torch's own formula does not know this form of it."""
    try:
        return int(count(*args, **kwargs, out_val=result))
    except (TypeError, ValueError, AssertionError, IndexError):
        return 0


def _tensors(result: Any) -> Iterator[Any]:
    if isinstance(result, torch.Tensor):
        yield result
    elif isinstance(result, list | tuple):
        for item in result:
            if isinstance(item, torch.Tensor):
                yield item
            elif isinstance(item, list | tuple):
                yield from _tensors(item)
    elif result is not None and not isinstance(result, int | float | bool | str):
        for item in tree_iter(result):
            if isinstance(item, torch.Tensor):
                yield item
