"""Figures of ncnn_post.py: what is measured, what a cell of it comes to, what the article prints, how they compare.

Sizes are bytes. Two cells count as alike in a figure when they differ by no more than the margin: LEAST, or twice the
largest range that the figure showed over fresh processes of one of the two, whichever is more.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peakmem.measuring.record import Cell, Mark, Run, Spread
from peakmem.measuring.summary import spread
from peakmem.measuring.top import TopRow, read_top

FACTS = Path(__file__).with_name("ncnn_post_facts.toml")

FP16 = "fp16_packed=off fp16_storage=off fp16_arithmetic=off"
INT8 = "int8_inference=off int8_packed=off int8_storage=off int8_arithmetic=off"
CELLS = {
    "defaults": "defaults",
    "light off": "lightmode=off",
    "light off, fp16 off": f"lightmode=off {FP16}",
    "fp16 off": FP16,
    "fp16 storage off": "fp16_storage=off",
    "bf16 storage on": "bf16_storage=on",
    "int8 off": INT8,
    "winograd off": "winograd=off",
    "winograd and sgemm off": "winograd=off sgemm=off",
    "two threads": "threads=2",
    "malloc thresholds": "malloc_mmap_threshold=131072 malloc_trim_threshold=131072",
    "pools off": "pool_allocator=off",
    "light, fp16, int8 off": f"lightmode=off {FP16} {INT8}",
    "fp16, int8 off": f"{FP16} {INT8}",
    "light, fp16, small tiles off": f"lightmode=off {FP16} winograd23=off winograd43=off",
}
# short name: settings; light mode, the fp16 and the int8 options are on by default
RECORDED = {True: "record_allocators=pool", False: "record_allocators=pool lightmode=off"}
# by light mode: processes that tell each request for blobs and workspace, and give no other figures
LOOPED = {"defaults": "defaults", "light off": "lightmode=off"}
# cells that are also run in a long loop, in one process with the counter
ROWS = (
    ("light, fp16, int8 off", "light off"),
    ("fp16, int8 off", "defaults"),
    ("int8 off", "int8 off"),
    ("defaults", "defaults"),
)
# cells of the article's four rows of top: with every flag off that a row does not name, and with the engine's defaults

LEAST = 64 << 10
# bytes; the spread that the instrument is held to (docs/measuring)
NEAR = 0.1
# of a published figure: a cell that comes within it reproduces it
MEGA = {"MB": 10**6, "MiB": 2**20}


@dataclass(frozen=True, slots=True)
class Figures:
    """One cell of one network; heap figures are the counter's, above the mark import of the same process."""

    vm_peak: Spread
    # VmPeak when the process ends
    rss_peak: Spread
    # highest resident set of any phase
    vm: dict[str, int]
    # VmPeak after each phase, median
    rss: dict[str, int]
    # most that was resident in each phase, median
    in_use_range: int
    # largest range of mallinfo2's bytes in use over the plain processes: how far the heap itself moves
    load: int
    # heap live after load
    load_peak: int
    run_peaks: tuple[int, ...]
    run_lives: tuple[int, ...]

    @property
    def runs_peak(self) -> int:
        """The most during any inference."""
        return max(self.run_peaks)

    @property
    def heap_peak(self) -> int:
        """The most from load to the last run."""
        return max(self.load_peak, self.runs_peak)

    @property
    def phase(self) -> str:
        """Where the heap is highest; a later run only where it is higher by the margin."""
        if self.load_peak > self.runs_peak:
            return "load"
        margin = max(LEAST, 2 * self.in_use_range)
        return f"run {next(at for at, peak in enumerate(self.run_peaks, 1) if peak > self.runs_peak - margin)}"


@dataclass(frozen=True, slots=True)
class Blobs:
    """What ncnn's allocators were asked for while it computed, and what their pools took from the system; the most."""

    blobs: int
    workspace: int
    blob_pool: int
    workspace_pool: int

    @property
    def pools(self) -> int:
        """Both pools."""
        return self.blob_pool + self.workspace_pool


@dataclass(frozen=True, slots=True)
class Result:
    """One network."""

    name: str
    onnx_bytes: int
    bin_bytes: int
    # of the two files; 0 where the conversion failed
    weights: int
    # bytes of kernels and matrices of convolutions and inner products, fp32
    products: int
    # the share of inner products
    cells: dict[str, Figures]
    blobs: dict[bool, Blobs] = field(default_factory=dict)
    # by light mode
    looped: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # by cell: the most heap in each run of a long loop
    failed: tuple[tuple[str, str], ...] = ()
    # cell, reason

    def run_peaks(self, cell: str) -> tuple[int, ...]:
        """The most heap in each run, of the longest loop there is."""
        return self.looped.get(cell) or self.cells[cell].run_peaks


@dataclass(frozen=True, slots=True)
class Published:
    """A column of the article's table."""

    name: str
    title: str
    file: str
    vm_peak: str


@dataclass(frozen=True, slots=True)
class Article:
    """What it prints."""

    title: str
    networks: tuple[Published, ...]
    toggled: str
    rows: tuple[TopRow, ...]
    stated: dict[str, int]
    claims: dict[str, str]


def article(path: Path = FACTS) -> Article:
    """The article's figures from the file that keeps them."""
    data: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    networks = tuple(Published(**one) for one in data["network"])
    return Article(data["title"], networks, data["toggled"], read_top(data["top"]), data["stated"], data["claims"])


def figures(cell: Cell) -> Figures | str:
    """The figures of `cell`, or why it has none."""
    for run in cell.runs:
        if run.outcome.status != "ok":
            return f"{run.outcome.status}: {run.outcome.reason}"
    plain = [_marks(run) for run in cell.runs if not run.instrumented]
    counted = [_marks(run) for run in cell.runs if run.instrumented]
    if not plain or not counted or any(mark.counted is None for mark in counted[0].values()):
        return "no plain process, or none with the counter"
    phases = [name for name in plain[0] if all(name in marks for marks in plain)]
    vm = {name: spread(marks[name].vm["VmPeak"] for marks in plain) for name in phases}
    rss = {name: spread(_resident(marks[name]) for marks in plain) for name in phases}
    top = spread(max(map(_resident, marks.values())) for marks in plain)
    last = vm[phases[-1]]
    assert top is not None
    assert last is not None
    heaps = [
        [heap.in_use_bytes for marks in plain if (heap := marks[name].heap) is not None]
        for name in phases
        if name == "load" or name.startswith("run ")
    ]
    base = _live(counted[0]["import"])
    return Figures(
        last, top,
        {name: one.median for name, one in vm.items() if one}, {name: one.median for name, one in rss.items() if one},
        max((max(values) - min(values) for values in heaps if values), default=0),
        _live(counted[0]["load"]) - base, _peak(counted[0]["load"]) - base,
        _in_runs(counted[0], _peak), _in_runs(counted[0], _live),
    )  # fmt: skip


def run_peaks(cell: Cell) -> tuple[int, ...]:
    """The most heap in each run of the cell's first good process with the counter; empty without one."""
    good = [run for run in cell.runs if run.instrumented and run.outcome.status == "ok"]
    return _in_runs(_marks(good[0]), _peak) if good else ()


def _in_runs(marks: dict[str, Mark], get: Callable[[Mark], int]) -> tuple[int, ...]:
    """A figure of the counter at each run's end, above what was live at the mark import."""
    base = _live(marks["import"])
    return tuple(get(mark) - base for name, mark in marks.items() if name.startswith("run "))


def _marks(run: Run) -> dict[str, Mark]:
    return {mark.phase: mark for mark in run.marks}


def _resident(mark: Mark) -> int:
    return max(mark.vm["VmHWM"], mark.vm["VmRSS"])


def _live(mark: Mark) -> int:
    return mark.counted.live_bytes if mark.counted else 0


def _peak(mark: Mark) -> int:
    return mark.counted.peak_bytes if mark.counted else 0


def blobs(facts: Mapping[str, str]) -> Blobs | None:
    """What a recorded process told; the most of all runs."""
    peaks: dict[str, int] = {}
    for name, value in facts.items():
        match = re.fullmatch(r"(blob|workspace) peak run \d+", name)
        if match:
            peaks[match[1]] = max(peaks.get(match[1], 0), int(value))
    if len(peaks) < 2 or "blob pool held" not in facts:
        return None
    held = int(facts["blob pool held"]), int(facts["workspace pool held"])
    return Blobs(peaks["blob"], peaks["workspace"], *held)


_SIZED = {"Convolution": "6=", "ConvolutionDepthWise": "6=", "Deconvolution": "6=", "InnerProduct": "2="}
# layers whose weights ncnn repacks, and the parameter that counts them (docs/developer-guide/operators.md of ncnn)


def weights(param: str) -> tuple[int, int]:
    """Bytes of fp32 weights that a .param names: of all layers that compute with a kernel, and of inner products."""
    total = products = 0
    for line in param.splitlines()[2:]:
        words = line.split()
        key = _SIZED.get(words[0]) if words else None
        for word in words if key else ():
            if key and word.startswith(key):
                nbytes = 4 * int(word.removeprefix(key))
                total += nbytes
                products += nbytes if words[0] == "InnerProduct" else 0
    return total, products


def margin(figure: str, *cells: Figures) -> int:
    """Bytes by which two cells have to differ in `figure` before it means something.

    Args:
        figure: "heap", "vm_peak" or "rss_peak".
        cells: those that are compared.
    """
    if figure == "heap":
        ranges = [cell.in_use_range for cell in cells]
    else:
        spreads: list[Spread] = [getattr(cell, figure) for cell in cells]
        ranges = [one.max - one.min for one in spreads]
    return max(LEAST, *(2 * one for one in ranges))


def mib(nbytes: float) -> str:
    """`nbytes` in MiB with one decimal; two below 1 MiB."""
    return f"{nbytes / 2**20:,.{1 if abs(nbytes) >= 2**20 else 2}f} MiB"


def printed_size(text: str) -> tuple[float, float]:
    """The number that a text such as "25.2MB" states, and half a step of its last digit.

    Raises:
        ValueError: not a number before "MB".
    """
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?MB", text)
    if match is None:
        raise ValueError(f"{text!r} is not a size in MB")
    return float(text.removesuffix("MB")), 0.5 * 10.0 ** -len(match[2] or "")


def reading(text: str, nbytes: int) -> dict[str, float]:
    """How far `nbytes` lies from the size that `text` states, by what its MB may mean; 0 where it rounds to it."""
    value, step = printed_size(text)
    away = {unit: nbytes / size - value for unit, size in MEGA.items()}
    return {unit: 0.0 if abs(one) <= step else one for unit, one in away.items()}


def best_reading(pairs: Iterable[tuple[str, int]]) -> tuple[str, dict[str, float]]:
    """Under which reading of MB printed sizes and bytes lie closest, and the largest share that each leaves over."""
    worst: dict[str, float] = {}
    for text, nbytes in pairs:
        for unit, away in reading(text, nbytes).items():
            worst[unit] = max(worst.get(unit, 0.0), abs(away) / printed_size(text)[0])
    return (min(worst, key=lambda unit: worst[unit]) if worst else ""), worst


def share(text: str, cell: Figures, base: float | None = None) -> float:
    """VmPeak as a share of the printed one, read as MiB; with `base` both less what there is without a network.

    Args:
        text: the printed size.
        cell: today's.
        base: MiB of the article's process without a network; today's is VmPeak at the mark import.
    """
    wanted = printed_size(text)[0] - (base or 0)
    return (cell.vm_peak.median - (0 if base is None else cell.vm["import"])) / 2**20 / wanted


def nearest(text: str, cells: Mapping[str, Figures], base: float | None = None) -> str:
    """The cell whose VmPeak lies nearest to a printed size."""
    return min(cells, key=lambda name: abs(share(text, cells[name], base) - 1))


def freed(one: Result) -> int:
    """Heap after load without light mode, less that with it: what loading releases."""
    return one.cells["light off"].load - one.cells["defaults"].load


def growth(cell: Figures) -> tuple[int, int, int]:
    """How far later runs go beyond the first: bytes at the peak, the run that gets there (to LEAST), bytes live."""
    later = max(cell.run_peaks[1:], default=cell.run_peaks[0])
    at = next((at for at, peak in enumerate(cell.run_peaks[1:], 2) if peak > later - LEAST), 1)
    return later - cell.run_peaks[0], at, max(cell.run_lives[1:], default=cell.run_lives[0]) - cell.run_lives[0]


def highs(peaks: Sequence[int]) -> list[int]:
    """The runs, from 1, whose peak lies above that of all runs before by more than LEAST; the first is one."""
    found: list[int] = []
    top = -LEAST - 1
    for run, peak in enumerate(peaks, 1):
        if peak > top + LEAST:
            found.append(run)
            top = peak
    return found


def reproduced(results: Iterable[Result], post: Article, base: float | None = None) -> dict[str, dict[str, bool]]:
    """By cell and network: whether its VmPeak lies within NEAR of the printed one."""
    printed = {one.name: one.vm_peak for one in post.networks if one.vm_peak}
    found: dict[str, dict[str, bool]] = {}
    for one in results:
        for name, cell in one.cells.items() if one.name in printed else ():
            found.setdefault(name, {})[one.name] = abs(share(printed[one.name], cell, base) - 1) <= NEAR
    return found
