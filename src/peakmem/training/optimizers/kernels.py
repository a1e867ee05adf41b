"""What one operator of an optimizer's step allocates on a device: its result, and on the processor the small tensors
that a Python number becomes.

The processor's kernels take tensors only: a number is wrapped into a tensor of eight bytes, and cast to the dtype of
the operation where that is another one. On a GPU numbers are arguments of the kernel. Watched under PyTorch 2.13's
profiler; `tests/unit/training/test_optimizers_torch.py` repeats it.
"""

from __future__ import annotations

from collections import Counter
from math import prod
from typing import NamedTuple

from peakmem.training.log import Category
from peakmem.training.optimizers.parameters import BYTES, OptimizerState, Parameter
from peakmem.training.recorder import Recorder

WRAPPED = 8
# bytes of a Python number as a tensor: float64 or int64


class Tensor(NamedTuple):
    """A tensor of a step."""

    shape: tuple[int, ...]
    dtype: str
    number: int = -1
    # of its storage in the log; -1 when somebody else holds it or it is not on the device

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        return prod(self.shape) * BYTES[self.dtype]


def of(parameter: Parameter) -> Tensor:
    """A tensor like a parameter that the optimizer does not own: the parameter itself, its gradient."""
    return Tensor(parameter.shape, parameter.dtype)


class Kernels:
    """Writes what operators allocate on one device."""

    def __init__(self, recorder: Recorder, device: str, state: OptimizerState) -> None:
        self.recorder, self.device, self.state = recorder, device, state

    def make(
        self, like: Tensor, operator: str, *, category: Category = "temporary", name: str = "", host: bool = False
    ) -> Tensor:
        """A new tensor; empty ones and, for a GPU, those of the host take no place in the log."""
        if not like.nbytes or (host and self.device != "cpu"):
            return like._replace(number=-1)
        number = self.recorder.allocate(
            like.nbytes, operator, category=category, dtype=like.dtype, shape=like.shape, name=name
        )
        return like._replace(number=number)

    def drop(self, tensor: Tensor) -> None:
        """Nobody holds a tensor any longer."""
        if tensor.number >= 0:
            self.recorder.release(tensor.number)

    def keep(
        self, parameter: Parameter, shape: tuple[int, ...], dtype: str, operator: str, *, host: bool = False
    ) -> Tensor:
        """A new tensor of the optimizer's state: it stays."""
        return self.make(Tensor(shape, dtype), operator, category="optimizer state", name=parameter.name, host=host)

    def number(self, dtype: str, operator: str, *, whole: bool = False, gives: Tensor | None = None) -> Tensor | None:
        """An operation of a tensor with a Python number (`whole`: an int), in place or giving a new tensor."""
        if self.device != "cpu":
            return None if gives is None else self.make(gives, operator)
        wrapped = self.make(Tensor((), "int64" if whole else "float64"), operator)
        cast = self.make(Tensor((), dtype), operator) if whole or dtype != "float64" else None
        result = None if gives is None else self.make(gives, operator)
        if cast is not None:
            self.drop(cast)
        self.drop(wrapped)
        return result

    def brief(self, like: Tensor, operator: str, *, host: bool = False) -> None:
        """A tensor that goes as soon as it is read."""
        self.drop(self.make(like, operator, host=host))

    def count(self, steps: int, *, together: bool, host: bool) -> None:
        """Step counters go up by one: one kernel for all of them, or a number for each; `host` ones are the host's."""
        if host and self.device != "cpu":
            return
        if together:
            self.brief(Tensor((), "float32"), "aten::_foreach_add_", host=True)
            return
        for _ in range(steps):
            self.number("float32", "aten::add_", whole=True)

    def mean(self, like: Tensor, shape: tuple[int, ...]) -> Tensor:
        """A mean over a dimension: on the processor a sum, divided by a count; 16 bits are summed in 32.

        A sum of 32,768 elements and more into one takes besides an element for each thread, which is left out.
        """
        result = self.make(Tensor(shape, like.dtype), "aten::mean")
        if self.device == "cpu":
            narrow = like.dtype in ("bfloat16", "float16")
            wide = "float32" if narrow else like.dtype
            total = self.make(Tensor(shape, wide), "aten::mean") if narrow else None
            if narrow:
                self.brief(Tensor(like.shape, wide), "aten::sum")
            self.number(wide, "aten::div_", whole=True)
            if total is not None:
                self.drop(total)
        return result


class Scope:
    """Names of a function and what they hold: a name bound anew lets go of what it held, leaving lets go of all.

    Names are given in the order in which the interpreter clears them; a list lets go of its last element first.
    """

    def __init__(self, kernels: Kernels, *names: str) -> None:
        self._kernels = kernels
        self._held: dict[str, tuple[Tensor, ...]] = dict.fromkeys(names, ())
        self._holders: Counter[int] = Counter()

    def bind(self, name: str, *tensors: Tensor) -> None:
        """A name holds these from now on, and what it held before no more."""
        before = self._held[name]
        for tensor in tensors:
            self._holders[tensor.number] += 1
        self._held[name] = tensors
        self._let_go(before)

    def share(self, name: str, other: str) -> None:
        """A name holds what another one holds, too."""
        self.bind(name, *self._held[other])

    def delete(self, name: str) -> None:
        """A name holds nothing any longer."""
        self.bind(name)

    def leave(self) -> None:
        """The function returns."""
        for name in self._held:
            self.delete(name)

    def _let_go(self, tensors: tuple[Tensor, ...]) -> None:
        for tensor in reversed(tensors):
            self._holders[tensor.number] -= 1
            if tensor.number >= 0 and not self._holders[tensor.number]:
                self._kernels.drop(tensor)
