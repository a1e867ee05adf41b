"""From whatever is to be trained to logs of its steps: traced on tensors without memory, or from a graph.

Which of the two is decided here, and what of it has to be said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from peakmem.errors import MissingLibrary, UsageError
from peakmem.report.training import Route
from peakmem.training.log import Log
from peakmem.training.scenario import Optimizer, Scenario

if TYPE_CHECKING:
    from peakmem.ir.graph import Graph
    from peakmem.training.formulas import Shape
    from peakmem.training.tracing.step import Workload
    from peakmem.training.whatif import Written
    from peakmem.zoo import Value

ROUTES = ("auto", *get_args(Route))
DIFFERS = (
    "the rules of the processor were followed for a CUDA device: masks of dropout, kernels of attention, workspaces "
    "and autocast lists differ there; it may need less or more"
)
SIZES = (("resolution", "resolution"), ("context", "sequence"), ("sequence", "sequence"))
# options of a built-in network that a scenario has a field for


@dataclass(frozen=True, slots=True)
class Source:
    """What is to be trained, and how large it is where it does not say so itself."""

    what: object
    inputs: object = None
    # of a torch.nn.Module
    shapes: Mapping[str, Sequence[int]] = field(default_factory=dict)
    dims: Mapping[str, int] = field(default_factory=dict)
    # of a file's graph

    @property
    def title(self) -> str:
        """What it is called in reports."""
        what = self.what
        return str(what) if isinstance(what, str | Path) else getattr(what, "__name__", type(what).__name__)


@dataclass(frozen=True, slots=True)
class Made:
    """A log, and what making it told."""

    whole: Written
    samples: int = 0
    # of one batch; 0 where only the step knows
    blocks: tuple[str, ...] = ()
    # module paths that repeat
    own: bool = False
    # whether step or optimizer are the user's own
    stepped: Optimizer | None = None
    # the optimizer that stepped, where a scenario can say it
    assumed: tuple[str, ...] = ()
    shape: Shape | None = None
    # of a transformer

    @property
    def log(self) -> Log:
        """The events."""
        return self.whole.log


@dataclass(frozen=True, slots=True)
class Producer:
    """Makes logs of one source under scenarios."""

    title: str
    route: Route
    scenario: Scenario
    # that is asked, on the processor where the device cannot be traced
    make: Callable[[Scenario], Made]
    notes: tuple[str, ...] = ()


def producer(source: Source, asked: Scenario, route: str = "auto") -> Producer:
    """What makes logs of the source.

    Raises:
        UsageError: there is no such thing, or the route does not lead to it.
        MissingLibrary: torch is needed and not installed.
        PeakmemError: the file cannot be read.
    """
    if route not in ROUTES:
        raise UsageError(f"there is no route {route!r}", expected=f"one of {', '.join(ROUTES)}", hint="--route trace")
    if _way(source, route) == "trace":
        return _tracing(source, asked)
    return _following(source, asked, asked_for=route == "graph")


def _way(source: Source, route: str) -> Route:
    has_torch, what = find_spec("torch") is not None, repr(source.title)
    if is_live(source.what):
        if route == "graph":
            raise UsageError(f"{what} is code and has no graph to follow", hint="--route trace")
        if source.shapes or source.dims:
            raise UsageError("--shape and --dim are for files", where=source.title, hint="--input DIMS")
        if not has_torch:
            raise MissingLibrary("torch", extra="torch", purpose=f"tracing a step of {what}")
        return "trace"
    if source.inputs:
        raise UsageError("inputs are for live models", where=source.title, hint="--batch N")
    if route == "trace" and not has_torch:
        raise MissingLibrary("torch", extra="torch", purpose="--route trace")
    traceable = _named(source.title)[0] is not None
    if route == "trace" and not traceable:
        raise UsageError("there is a graph and no code to trace", where=source.title, hint="--route graph")
    return "trace" if traceable and has_torch and route != "graph" else "graph"


def is_live(what: object) -> bool:
    """Whether it is code of the user's own, or an object."""
    from peakmem.frontends.live import is_factory

    if not isinstance(what, str | Path):
        return True
    text = str(what)
    return is_factory(text) and _named(text)[0] is None and not Path(text).exists()


def _named(text: str) -> tuple[str | None, dict[str, Value]]:
    """A name for `networks.workload`, and options behind it: "resnet50:classes=10"; None where it knows none."""
    from peakmem.training import networks
    from peakmem.zoo import is_named, parse_spec

    if networks.known(text):
        return text, {}
    if is_named(text) and not Path(text).exists():
        name, options = parse_spec(text)
        return (name, options) if networks.known(name) else (None, {})
    return None, {}


# -- traced ------------------------------------------------------------------------------


def _tracing(source: Source, asked: Scenario) -> Producer:
    """Logs of a step traced on tensors without memory, by the processor's rules where CUDA's cannot be traced."""
    from peakmem.frontends.torch.fake import require_torch

    require_torch()
    from peakmem.training.optimizers import settle, with_optimizer
    from peakmem.training.tracing import cuda
    from peakmem.training.tracing.watched import Watched
    from peakmem.training.whatif import is_written, traceable, written

    scenario, notes = asked, tuple[str, ...]()
    if asked.device == "cuda" and (reason := cuda.available()):
        scenario, notes = replace(asked, device="cpu"), (f"device cuda cannot be traced here: {reason}", DIFFERS)
        if asked.optimizer is not None or not is_live(source.what):
            chosen = asked.optimizer or Optimizer()
            usual = settle(chosen, "cuda").implementation  # torch's choice there is another than here
            scenario = replace(scenario, optimizer=replace(chosen, implementation=usual))
    first: list[Optimizer | None] = []
    # the optimizer of the user's own step

    def make(wanted: Scenario) -> Made:
        traced = replace(traceable(wanted), device=scenario.device)
        watched = Watched(_workload(source, traced))
        log = watched.log(traced)
        if watched.own:
            first.append(watched.optimizer)
        other = wanted.optimizer
        if other is not None and watched.own and other != first[0] and not is_written(wanted):
            log = with_optimizer(log, other, asked.device)
        assumed = watched.notes
        log = replace(log, notes=tuple(note for note in log.notes if note not in assumed))
        whole = written(log, replace(wanted, device=asked.device), watched.blocks)
        return Made(whole, watched.samples, watched.blocks, watched.own, watched.optimizer, assumed, watched.shape)

    return Producer(source.title, "trace", scenario, make, notes)


def _workload(source: Source, scenario: Scenario) -> Workload:
    if is_live(source.what):
        from peakmem.training.tracing import given

        return given.workload(source.what, scenario, inputs=source.inputs)
    from peakmem.training import networks

    name, options = _named(source.title)
    assert name is not None
    for option, fact in SIZES:
        if option in options and getattr(scenario, fact) is None:
            scenario = replace(scenario, **{fact: options.pop(option)})  # type: ignore[arg-type]
    return networks.workload(name, scenario, **options)


# -- from the graph ----------------------------------------------------------------------


def _following(source: Source, asked: Scenario, *, asked_for: bool) -> Producer:
    """Logs by the graph's own autograd; no torch."""
    from peakmem.training import saved
    from peakmem.training.whatif import traceable, written

    notes: tuple[str, ...] = ()
    if not asked_for and _named(source.title)[0] is not None and find_spec("torch") is None:
        notes = ("torch is not installed, so that nothing could be traced (pip install 'peakmem[torch]')",)

    def make(wanted: Scenario) -> Made:
        graph = _graph(source, wanted)
        batch = next((graph.tensors[name].shape for name in graph.inputs), None) or (0,)
        samples = batch[0] if isinstance(batch[0], int) else 0
        units = tuple(saved.blocks_of(graph))
        return Made(written(saved.graph_log(graph, traceable(wanted)), wanted, units), samples)

    return Producer(source.title, "graph", asked, make, notes)


def _graph(source: Source, scenario: Scenario) -> Graph:
    """The graph in the sizes of a scenario.

    Raises:
        UnboundDimension: a dimension has no value.
        UsageError: the source has no such size.
    """
    from peakmem.binding import bound
    from peakmem.pipeline import load
    from peakmem.training.networks import NETWORKS
    from peakmem.zoo import is_named, parse_spec, spec

    text, batch, options = source.title, scenario.batch, dict[str, str]()
    if is_named(text) and not Path(text).exists():
        name, given = parse_spec(text)
        for fact in ("resolution", "sequence"):
            value = getattr(scenario, fact)
            if value is not None:
                key = "context" if fact == "sequence" and name.startswith("gpt") else fact
                given[key] = value
        text = spec(name, given)
        batch = batch or (NETWORKS[name].batch if name in NETWORKS else None)
    elif scenario.resolution is not None:
        raise UsageError("a file's images have the size that is in it", where=text, hint="--shape NAME=DIMS")
    elif scenario.sequence is not None:
        options["context"] = str(scenario.sequence)
    return bound(load(text, options=options), batch=batch, shapes=source.shapes, dims=source.dims)
