"""What is looked up: bytes that a kernel takes inside an operator, the row that says so, the machine it holds for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

Left = int | tuple[int, ...]
Answer = int | list[int] | tuple[int, int] | tuple[int, int, int] | tuple[int, int, int, Left] | None
# of a rule: bytes beside the results, in one block or in several; or before and beside them, at most, left (in the
# first result, or in each); None: not
# for these operands
Rule = Callable[["Call"], Answer]


@dataclass(frozen=True, slots=True)
class Machine:
    """What the sizes of workspaces depend on besides the operands."""

    threads: int = 2
    # torch.get_num_threads()
    lanes: int = 16
    # floats in a register: 16 with AVX-512, 8 with AVX2
    bfloat16: bool = True
    # oneDNN computes in it here (torch.ops.mkldnn._is_mkldnn_bf16_supported)
    half: bool = False
    # the same of float16
    onednn: bool = True
    multiprocessors: int = 132
    # of a graphics card; H100's, where none is told
    capability: tuple[int, int] = (9, 0)
    # the card's compute capability


AMPERE = Machine(multiprocessors=108, capability=(8, 0))
# an A100's figures, for a card that nobody named


class Call(NamedTuple):
    """One call of an operator, with fake or real tensors."""

    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    result: Any
    machine: Machine


@dataclass(frozen=True, slots=True)
class Found:
    """What one call takes inside and gives back before it returns."""

    nbytes: int
    # alive at most beside all results
    source: str
    # the row's
    at_most: int
    # not less than `nbytes`: what it cannot exceed, where the row is no exact rule
    before: int = 0
    # alive at most while not all results are there, those that are already there counted in
    left: tuple[int, ...] = ()
    # held by each result until it goes, though its shape does not tell: oneDNN's workspace of an LSTM, whose shape
    # torch's fake tensors call empty, losses whose storage keeps the size it had before it was averaged, statistics
    # in float32 that fake tensors call narrow
    parts: tuple[int, ...] = ()
    # the blocks that `nbytes` is made of, in order, where an allocator that rounds must know them; empty: one block

    def excess(self, results: int) -> int:
        """By how much the highest level within the operator lies above what it leaves, `results` bytes."""
        return max(self.nbytes, self.before - results)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    operators: tuple[str, ...]
    # "aten::convolution", without overloads
    device: str
    # "cpu" or "cuda"
    formula: str
    # in words, for people
    source: str
    # file and version it is read from, or how it was measured
    rule: Rule
    measured: bool = True
    # on this kind of device, by the sweep whose results stand beside the table


@dataclass(frozen=True, slots=True)
class Kept:
    """A workspace that a library takes once and keeps."""

    when: str
    # "first product in a forward", "first product in a backward", "first convolution"
    nbytes: int
    source: str
