"""Another optimizer in the log of a step, or gradients that are zeroed instead of let go: a log in, a log out."""

from __future__ import annotations

from collections.abc import Collection
from math import prod

from peakmem.errors import UsageError
from peakmem.training.log import Log, Storage, spans
from peakmem.training.optimizers.copying import Copying
from peakmem.training.optimizers.parameters import BYTES, OptimizerState, Parameter
from peakmem.training.optimizers.settings import settle
from peakmem.training.optimizers.write import write_build, write_step
from peakmem.training.scenario import Optimizer


def parameters_of(log: Log, trainable: Collection[str] | None = None) -> list[Parameter]:
    """The parameters of a log, as an optimizer sees them: those with a gradient in the log, or those that are named.

    In the order in which the log's own optimizer made their state; those without state in order of allocation.
    """
    with_gradient = {item.name for item in log.storages if item.category == "gradient"} - {""}
    stepped: dict[str, int] = {}
    for item in log.storages:
        if item.category == "optimizer state" and item.name:
            stepped.setdefault(item.name, len(stepped))
    found: dict[str, Parameter] = {}
    for number, item in enumerate(log.storages):
        if item.category == "parameter":
            name = item.name or f"(parameter {number})"
            shape = item.shape
            if item.dtype not in BYTES:
                raise UsageError(f"no element size of dtype {item.dtype!r}", where=name)
            if prod(shape) * BYTES[item.dtype] != item.nbytes:
                shape = (item.nbytes // BYTES[item.dtype],)  # several in one storage, or a padded one
            gradient = name in (with_gradient if trainable is None else trainable)
            found[name] = Parameter(name, shape, item.dtype, gradient)
    return sorted(found.values(), key=lambda item: stepped.get(item.name, len(stepped)))


def with_optimizer(
    log: Log, optimizer: Optimizer, device: str = "", *, trainable: Collection[str] | None = None
) -> Log:
    """The log with another optimizer: its state and its steps in place of those that the log holds.

    All that was allocated in the log's optimizer phases goes, and all state; what was there before and is released
    in them stays. A step without an optimizer phase (plain SGD writes nothing) gets one after its last backward.

    Raises:
        UsageError: an optimizer that is not known, no parameter with a gradient, or two optimizers in one step.
    """
    device = device or log.device
    settings = settle(optimizer, device)
    parameters = parameters_of(log, trainable)
    if not any(item.gradient for item in parameters):
        raise UsageError("no parameter of the log has a gradient", hint="name those that train")
    if trainable is not None:
        parameters = [item for item in parameters if item.gradient]
    own = {
        number for number, item in enumerate(log.storages) if "optimizer" in (item.phase, item.category.split(" ")[0])
    }
    state, copying = OptimizerState(), Copying(log, device=device, without=own)
    places = _places(copying)
    recorder = copying.recorder
    built = False
    for mark, end in copying.spans:
        if mark.step >= 0 and not built:
            write_build(recorder, parameters, optimizer, state, device)
            built = True
        recorder.enter(mark.phase, mark.step)
        for moment in range(mark.moment, end):
            copying.take(moment)
            if moment in places:
                recorder.enter("optimizer", places[moment])
                recorder.module = ""
                write_step(recorder, parameters, optimizer, state, device)
                if moment + 1 < end:
                    recorder.enter(mark.phase, mark.step)
    recorder.notes.append(
        f"optimizer phase by the layout of {settings.name}, {settings.implementation} ({settings.source})"
    )
    return copying.finish()


def _places(copying: Copying) -> dict[int, int]:
    """After which moment which step's optimizer runs: where its own events begin, else after the last backward."""
    found: dict[int, int] = {}
    for step in range(copying.log.steps):
        of_step = [(mark, end) for mark, end in copying.spans if mark.step == step]
        phases = [(mark.moment, end) for mark, end in of_step if mark.phase == "optimizer"]
        if len(phases) > 1:
            raise UsageError(
                f"step {step} has {len(phases)} optimizer phases: which parameters belong to which is not known",
                hint="trace the step with the other optimizers",
            )
        backwards = [end for mark, end in of_step if mark.phase == "backward"]
        if phases:
            begin, end = phases[0]
            own = (moment for moment in range(begin, end) if copying.events[moment].storage in copying.without)
            found[next(own, end) - 1] = step
        elif backwards:
            found[_after_roots(copying, backwards[-1]) - 1] = step
    return found


def _after_roots(copying: Copying, moment: int) -> int:
    """The end of a backward: autograd lets go of the gradient that it began with when its phase is over."""
    while moment < copying.log.moments:
        event = copying.events[moment]
        if event.allocates or copying.log.storages[event.storage].operator != "aten::ones_like":
            break
        moment += 1
    return moment


def with_zeroed_gradients(log: Log) -> Log:
    """The log with `zero_grad(set_to_none=False)`: first gradients stay, later ones are added to them and go.

    Autograd adds a gradient as soon as the node that makes it is done, so a later gradient goes before the next
    module's backward allocates.
    """
    kept: dict[str, int] = {}
    copying = Copying(log)
    for number, item in enumerate(log.storages):
        if item.category == "gradient" and item.name:
            if item.name not in kept:
                kept[item.name] = number
                copying.kept.add(number)
            elif item.phase == "backward" and item.step > log.storages[kept[item.name]].step:
                copying.relabelled[number] = "temporary"
                copying.kept.add(number)
                copying.released_after[_node_end(copying, number)].append(number)
    return _copied(copying, "gradients are zeroed in place, not let go")


def _node_end(copying: Copying, number: int) -> int:
    """The last moment before something else than this module's backward allocates."""
    item, at = copying.log.storages[number], copying.log.storages[number].start
    for moment in range(item.start + 1, copying.log.moments):
        event = copying.events[moment]
        other = copying.log.storages[event.storage]
        if event.allocates and (other.module, other.phase) != (item.module, item.phase):
            break
        if not event.allocates and event.storage == number:
            break
        if event.allocates:
            at = moment
    return at


def with_none_gradients(log: Log) -> Log:
    """The log with `zero_grad(set_to_none=True)`: gradients go at the end of each step, and come anew in the next.

    Raises:
        UsageError: a gradient of the first step has no counterpart of its size, operator and module in a later one.
    """
    copying, alike = Copying(log), _alike(log)
    firsts = [
        (number, item)
        for number, item in enumerate(log.storages)
        if item.category == "gradient" and item.stop == log.moments
    ]
    for number, first in firsts:
        place = alike[_kind(first)].index(number)
        for step, end in _ends(log).items():
            if step < first.step:
                continue
            later = alike.get((step, *_kind(first)[1:]), [])
            if place >= len(later):
                raise UsageError(f"no gradient of {first.name} is found in step {step}", where=first.module)
            now = later[place]
            copying.relabelled[now], copying.renamed[now] = "gradient", first.name
            copying.kept.add(now)
            if step + 1 < log.steps:
                copying.released_after[end].append(now)
    return _copied(copying, "gradients are let go after each step, not zeroed")


def _ends(log: Log) -> dict[int, int]:
    """The last moment of each step."""
    return {mark.step: end - 1 for mark, end in spans(log) if mark.step >= 0 and end > mark.moment}


_Kind = tuple[int, str, int, str, str]


def _kind(item: Storage) -> _Kind:
    """What a step's storage has in common with its counterpart in another step, after the step itself."""
    return item.step, item.phase, item.nbytes, item.operator, item.module


def _alike(log: Log) -> dict[_Kind, list[int]]:
    found: dict[_Kind, list[int]] = {}
    for number, item in enumerate(log.storages):
        found.setdefault(_kind(item), []).append(number)
    return found


def _copied(copying: Copying, note: str) -> Log:
    for mark, end in copying.spans:
        copying.recorder.enter(mark.phase, mark.step)
        for moment in range(mark.moment, end):
            copying.take(moment)
    copying.recorder.notes.append(note)
    return copying.finish()
