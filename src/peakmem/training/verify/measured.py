"""A recording of a real run as a log: each event of the allocator in its phase, module and category.

Needs no torch: a recording is plain data.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from peakmem.training.log import Log
from peakmem.training.recorder import Recorder
from peakmem.training.verify.wire import Recording

LATE = "{} bytes were released that came before the profiler; they are in no figure"


class _Modules:
    """Which module an event belongs to, as `tracing.tracer` tells it."""

    def __init__(self) -> None:
        self.path, self.depth = "", 1
        self._since, self._paths = [0], [""]

    def enter(self, path: str, depth: int, number: int) -> None:
        """From now on, and for autograd's nodes from this number on, it is this path."""
        self.path, self.depth = path, depth
        if self._since[-1] == number:
            self._paths[-1] = path
        elif self._since[-1] < number:
            self._since.append(number)
            self._paths.append(path)

    def of(self, phase: str, node: int) -> str:
        """The path for an event; `node` as a recording has it."""
        if phase != "backward":
            return self.path
        if node == -1:
            return ""
        if self.depth > 1:
            return self.path  # a forward that runs again
        return "" if node < 0 else self._paths[max(bisect_right(self._since, node) - 1, 0)]


def log_of(recording: Recording) -> Log:
    """The log with origin "measured".

    What comes and goes within one call of an operator is a kernel's workspace: nothing outside of the operator can have
    held it. Parameters, gradients and the rest are known by the addresses that the process told.
    """
    recorder = Recorder(device=recording.device, origin="measured")
    recorder.notes += recording.said
    modules = _Modules()
    living: dict[int, tuple[int, int, bool]] = {}
    # by address: the number of a storage, the call that made it, whether it has been given a category
    unknown = lost = 0
    for event in recording.events:
        if len(event) == 1:
            if not _note(recording.notes[event[0]], recorder, modules, living):
                break
            continue
        address, nbytes, operator, call, node = event
        if nbytes > 0:
            if address in living:
                lost += 1  # its release was not reported: it happened in a thread that the profiler does not see
                recorder.release(living.pop(address)[0])
            name = recording.operators[operator] if operator >= 0 else ""
            number = recorder.allocate(nbytes, name, module=modules.of(recorder.phase, node))
            living[address] = (number, call, False)
        elif (made := living.pop(address, None)) is None:
            unknown += -nbytes
        else:
            number, maker, named = made
            if maker == call and call and not named:
                recorder.label(number, "kernel workspace")
            recorder.release(number)
    if unknown:
        recorder.notes.append(LATE.format(f"{unknown:,}"))
    if lost:
        recorder.notes.append(f"{lost} releases were not reported and are set to the next use of their address")
    return recorder.finish()


def _note(note: list[Any], recorder: Recorder, modules: _Modules, living: dict[int, tuple[int, int, bool]]) -> bool:
    """Carry one note out; false for the last."""
    match note:
        case ["end"]:
            return False
        case ["phase", phase, step]:
            recorder.enter(phase, step)
        case ["module", path, depth, number]:
            modules.enter(path, depth, number)
        case ["label", address, category, name]:
            if (made := living.get(address)) is not None:
                known = recorder.category(made[0])
                if category != "optimizer state" or known in (None, category):
                    recorder.label(made[0], category, name)
                    living[address] = (made[0], made[1], True)
        case ["open", address, category]:
            if (made := living.get(address)) is not None:
                recorder.label_open(made[0], category)
        case ["settle", category]:
            recorder.settle(category)
    return True
