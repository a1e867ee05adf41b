"""One training step against one memory, under any scenario: the whole analysis, each log made once.

Nothing is searched and nothing decided here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from peakmem.errors import PeakmemError, UsageError
from peakmem.producing import Made, Producer
from peakmem.report.training import Outcome
from peakmem.training.account import Peak, bound, peak, peaks
from peakmem.training.allocator import Settings, simulate
from peakmem.training.log import CATEGORIES, PHASES, Log, Phase
from peakmem.training.scenario import Scenario, Sharding
from peakmem.training.whatif.parallel import parallel
from peakmem.training.whatif.rows import total_flops
from peakmem.training.whatif.sharding import sharded
from peakmem.verdict import Capacity, beside_cpu, beside_cuda, judged_cpu, judged_cuda, reserved_of


@dataclass(frozen=True, slots=True)
class Analysis:
    """What a step needs of the memory, and whether it fits."""

    outcome: Outcome
    reason: str
    # of the allocator at its limit
    needed_bytes: int
    # predicted; where the allocator gives cached blocks back at the limit, what it holds then
    bound_bytes: int | None
    # that is not exceeded; None: nothing is known that is not
    tensors: Peak
    beside_bytes: int
    # what the process holds beside its tensors
    phases: tuple[tuple[Phase, int], ...]
    # the peak of the tensors in each phase
    flops: int

    @property
    def shares(self) -> tuple[tuple[str, int], ...]:
        """What the need is made of; adds up to `needed_bytes`."""
        held = [(name, self.tensors.categories[name]) for name in CATEGORIES if self.tensors.categories[name]]
        rest = self.needed_bytes - self.beside_bytes - self.tensors.nbytes
        shares: list[tuple[str, int]] = sorted(held, key=lambda pair: -pair[1])
        if rest:
            shares.append(("rounded, cached and scattered", rest))
        if self.beside_bytes:
            shares.append(("process and context", self.beside_bytes))
        return tuple(shares)


@dataclass(frozen=True, slots=True)
class Case:
    """A scenario with the settings of the allocator."""

    scenario: Scenario
    conf: str = ""


def varied(case: Case, knob: str, value: int) -> Case:
    """The case with another batch, sequence or resolution."""
    return replace(case, scenario=replace(case.scenario, **{knob: value}))  # type: ignore[arg-type]


@dataclass(slots=True)
class Analyses:
    """Analyses of one source in one memory."""

    maker: Producer
    capacity: Capacity
    on_cuda: bool
    # whether torch's caching allocator decides
    most_traces: int
    traces: int = 0
    # logs that were made
    _made: dict[Scenario, Made | PeakmemError] = field(default_factory=dict)
    _found: dict[tuple[Case, int], Analysis] = field(default_factory=dict)

    @property
    def exact(self) -> bool:
        """Whether logs are traces by the device's own rules, so that a bound can be told."""
        return self.maker.route == "trace" and self.on_cuda == (self.maker.scenario.device == "cuda")

    @property
    def beside_bytes(self) -> int:
        """What the process holds beside its tensors."""
        return (beside_cuda(self.capacity.card) if self.on_cuda else beside_cpu()).nbytes

    @property
    def spent(self) -> bool:
        """Whether no more logs are to be made for what is only tried."""
        return self.traces >= self.most_traces

    def made(self, scenario: Scenario) -> Made:
        """The log of a scenario and what making it told.

        Raises:
            PeakmemError: it cannot be had.
        """
        known = self._made.get(scenario)
        if known is None:
            self.traces += 1
            try:
                known = self.maker.make(scenario)
            except PeakmemError as fault:
                self.traces -= 1
                known = fault
            self._made[scenario] = known
        if isinstance(known, PeakmemError):
            raise known
        return known

    def know(self, scenario: Scenario, made: Made) -> None:
        """That another scenario is the same step: sizes said that were its own."""
        self._made.setdefault(scenario, made)

    def has(self, scenario: Scenario) -> bool:
        """Whether an analysis of it needs no log that is not there."""
        return scenario in self._made or replace(scenario, sharding=Sharding()) in self._made

    def log(self, scenario: Scenario) -> Log:
        """The log of a scenario; what is split over ranks is written into the log of one.

        Raises:
            PeakmemError: it cannot be had.
        """
        split = scenario.sharding
        if split == Sharding():
            return self.made(scenario).log
        made = self.made(replace(scenario, sharding=Sharding()))
        if not made.blocks:
            return self.made(scenario).log  # from a graph: only its producer knows the blocks
        return divided(made.log, split, made.blocks)

    def of(self, case: Case, capacity_bytes: int | None = None) -> Analysis:
        """The analysis of a case.

        Raises:
            PeakmemError: its log cannot be had.
        """
        key = case, self.capacity.nbytes if capacity_bytes is None else capacity_bytes
        if key not in self._found:
            self._found[key] = self.judged(self.log(case.scenario), case.conf, capacity_bytes)
        return self._found[key]

    def judged(self, log: Log, conf: str = "", capacity_bytes: int | None = None) -> Analysis:
        """A log against the memory."""
        if not any(item.nbytes for item in log.storages):
            raise UsageError(f"the step makes no tensor on device {log.device}", where=self.maker.title)
        capacity = self.capacity if capacity_bytes is None else replace(self.capacity, nbytes=capacity_bytes)
        tensors, phases, flops = peak(log), tuple(_phases(log)), total_flops(log)
        if not self.on_cuda:
            beside = beside_cpu()
            verdict = judged_cpu(log, capacity, exact=self.exact)
            most = max(bound(log), tensors.nbytes) + beside.bound_bytes if self.exact else None
            return Analysis(
                verdict.outcome, verdict.reason, tensors.nbytes + beside.nbytes, most, tensors, beside.nbytes, phases,
                flops,
            )  # fmt: skip
        settings = Settings.parse(conf)
        beside = beside_cuda(capacity.card)
        reserved = reserved_of(simulate(log, settings), exact=self.exact)
        verdict = judged_cuda(log, capacity, reserved, settings)
        needed, most = reserved.reserved_bytes + beside.nbytes, verdict.bound_bytes
        if verdict.outcome != "does not fit" and needed > capacity.nbytes:
            room = capacity.nbytes - beside.nbytes
            needed = simulate(log, settings, capacity=room, bound=False).reserved.nbytes + beside.nbytes
        if verdict.outcome == "fits" and most is not None:
            most = min(most, capacity.nbytes)  # it runs in what there is, whatever comes
        return Analysis(verdict.outcome, verdict.reason, needed, most, tensors, beside.nbytes, phases, flops)

    def runs(self, log: Log, conf: str = "") -> bool:
        """Whether a log is got through in the memory, as predicted."""
        room = self.capacity.nbytes - self.beside_bytes
        if not self.on_cuda:
            return peak(log).nbytes <= room
        return simulate(log, Settings.parse(conf), capacity=max(room, 0), bound=False).failure is None


def _phases(log: Log) -> Iterator[tuple[Phase, int]]:
    highest: dict[Phase, int] = {}
    for one in peaks(log):
        highest[one.phase] = max(highest.get(one.phase, 0), one.nbytes)
    yield from ((phase, highest[phase]) for phase in PHASES if phase in highest)


def divided(log: Log, split: Sharding, units: Sequence[str]) -> Log:
    """A log of one process as what each of several holds."""
    whole = sharded(log, split, units)
    return parallel(whole, split.tensor, sequence=split.sequence, units=units)
