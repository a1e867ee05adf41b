"""What a real run is told apart by: marks between the allocator's events, where `tracing` would write into its log.

It stands where the follower of phases expects a tracer and its recorder, and passes on what the follower finds. No
dispatch mode is active, so that autograd does what it does without us. Imported with torch at hand.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from peakmem.training.log import Category, Phase

Tell = Callable[[list[Any]], None]


class Witness:
    """Says phases, modules and what storages are; knows a storage by the address of its first byte."""

    def __init__(self, device: str, tell: Tell) -> None:
        self.device, self.tell = device, tell
        self.modules = [""]
        self.recorder = self
        self.phase: Phase = "build"
        self.step = -1
        self.notes: list[str] = []

    # As a tracer -----------------------------------------------------------------------------------------------

    def enter_module(self, path: str) -> None:
        """The forward of a module begins."""
        self.modules.append(path)
        self._module()

    def leave_module(self) -> None:
        """The forward of a module ends."""
        if len(self.modules) > 1:
            self.modules.pop()
        self._module()

    def _module(self) -> None:
        number = torch._C._autograd._get_sequence_nr()
        self.tell(["module", self.modules[-1], len(self.modules), number])

    def forget_numbers(self) -> None:
        """What autograd keeps of Python's numbers is among the allocator's own events."""

    def number_of(self, tensor: Any) -> int | None:
        """The address of a tensor's storage; None where it has none on the device that is watched."""
        if tensor.device.type != self.device:
            return None
        try:
            return int(tensor.untyped_storage().data_ptr()) or None
        except (RuntimeError, NotImplementedError):
            return None

    def meet(self, tensor: Any, _operator: str, _module: str | None = None) -> tuple[int, bool] | None:
        """The address of a tensor's storage, which is never new: the allocator says when it came."""
        number = self.number_of(tensor)
        return None if number is None else (number, False)

    # As a recorder ---------------------------------------------------------------------------------------------

    def enter(self, phase: Phase, step: int | None = None) -> None:
        """From now on it is this phase."""
        step = self.step if step is None else step
        if (step, phase) != (self.step, self.phase):
            self.step, self.phase = step, phase
            self.tell(["phase", phase, step])

    def label(self, number: int, category: Category, name: str = "") -> None:
        """What the storage at an address is."""
        self.tell(["label", number, category, name])

    def label_open(self, number: int, category: Category) -> None:
        """What it is if no module made it and nothing else is known of it."""
        self.tell(["open", number, category])

    def settle(self, category: Category) -> None:
        """Call all that is alive and open by this name."""
        self.tell(["settle", category])

    def category(self, _number: int) -> object:
        """Never known here: a later label of the same kind changes nothing."""
        return None
