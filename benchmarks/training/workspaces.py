"""Workspaces, said and measured: each operator of little training programs under the profiler's allocator events.

    python benchmarks/training/workspaces.py              the table, family by family
    python benchmarks/training/workspaces.py --write      and the evidence beside the rows, and the page of the docs

An operator's highest level within it is compared with what `peakmem.training.workspaces` says of the same call. The
profiler sees every allocation of PyTorch's own allocator, oneDNN's scratchpads among them; libraries' own mallocs it
does not see.
"""

from __future__ import annotations

import argparse
import bisect
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode
from workspace_cases import FAMILIES, Program, backward

from peakmem.training import workspaces
from peakmem.training.workspaces.found import Found

HERE = Path(__file__).resolve().parents[2]
EVIDENCE = HERE / "src" / "peakmem" / "training" / "workspaces" / "evidence.json"
PAGE = HERE / "docs" / "training" / "workspaces.md"
MARK = "peakmem operator "


@dataclass(slots=True)
class Seen:
    """One call: what was said, and what the profiler saw."""

    operator: str
    key: str
    said: Found | None
    level: int = 0
    # the highest within the operator, above where it began
    results: int = 0
    # what it left


@dataclass(slots=True)
class Tally:
    """Calls of one row or one operator."""

    calls: int = 0
    exact: int = 0
    worst: float = 0.0
    # signed, of the highest level within the operator
    largest: int = 0
    # bytes beyond the results, measured
    above: int = 0
    # calls that took more than `at_most`
    operators: set[str] = field(default_factory=set)


class Marked(TorchDispatchMode):
    """Notes each operator and brackets it in the profile."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Seen | None] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        number = len(self.seen)
        self.seen.append(None)
        with record_function(f"{MARK}{number}"):
            result = func(*args, **(kwargs or {}))
        said = workspaces.find(func, args, kwargs or {}, result, "cpu")
        if not func._schema.name.startswith("aten::"):
            return result
        self.seen[number] = Seen(func._schema.name, f"{func} {_sizes(args)} {_sizes(kwargs)}", said)
        return result


def _sizes(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return (str(value.dtype), tuple(value.shape), tuple(value.stride()) if not value.is_mkldnn else ())
    if isinstance(value, Mapping):
        return tuple((name, _sizes(each)) for name, each in value.items())
    return tuple(_sizes(each) for each in value) if isinstance(value, Sequence) and type(value) is not str else value


def measured(programs: Iterator[Program]) -> Iterator[Seen]:
    """Each distinct call of some programs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded, Marked() as mode:
        for program in programs:
            try:
                backward(program())
            except (RuntimeError, NotImplementedError):
                continue  # not for this type on this device
    events = []
    stack = list(recorded.profiler.kineto_results.experimental_event_tree())
    while stack:
        event = stack.pop()
        stack.extend(event.children)
        if event.tag == _EventType.Allocation:
            events.append((event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size))
    events.sort()
    times = [time for time, _, _ in events]
    known = set()
    for event in recorded.profiler.kineto_results.events():
        if event.name().startswith(MARK):
            seen = mode.seen[int(event.name().removeprefix(MARK))]
            if seen is None or seen.key in known:
                continue
            known.add(seen.key)
            begin, end = event.start_ns(), event.start_ns() + event.duration_ns()
            inside = events[bisect.bisect_left(times, begin) : bisect.bisect_right(times, end)]
            seen.level, seen.results = _levels(inside)
            yield seen


def _levels(events: Sequence[tuple[int, int, int]]) -> tuple[int, int]:
    own: dict[int, int] = {}
    level = highest = 0
    for _, address, nbytes in events:
        if nbytes > 0:
            own[address] = nbytes
        elif own.pop(address, None) is None:
            continue  # older than the operator
        level += nbytes
        highest = max(highest, level)
    return highest, sum(own.values())


def tally(seen: Iterator[Seen], by_row: dict[str, Tally], without: dict[str, Tally]) -> Tally:
    """One family's calls, added to those of each row."""
    whole = Tally()
    for call in seen:
        if call.said is None:
            item = without.setdefault(call.operator, Tally())
            item.calls += 1
            item.largest = max(item.largest, call.level - call.results)
            continue
        said = max(call.said.before, call.results + call.said.nbytes)
        off = (said - call.level) / max(call.level, 1)
        most = call.results + max(call.said.at_most, call.said.before - call.results)
        for item in (whole, by_row.setdefault(call.said.source, Tally())):
            item.calls += 1
            item.exact += said == call.level
            item.above += call.level > most
            item.largest = max(item.largest, call.level - call.results)
            item.worst = off if abs(off) > abs(item.worst) else item.worst
            item.operators.add(call.operator)
    return whole


def page(evidence: dict[str, Any]) -> str:
    """The page of the docs: rows with what was measured."""
    lines = [
        "# What kernels take inside an operator", "",
        "A kernel may take memory that it gives back before it returns: a reordered image, a scratchpad, partial sums. "
        "No tracer at the dispatcher sees it. `peakmem.training.workspaces` says it from a table; an operator without "
        "a row is a doubt with a bound, never a silent zero.", "",
        "The processor's rows are held against the profiler's allocator events: "
        f"{evidence['machine']}. A call counts as exact when the highest level within the operator is met to the byte. "
        "`python benchmarks/training/workspaces.py --write` measures again and writes this page.", "",
        "| family | distinct calls | exact | worst |", "|---|---:|---:|---:|",
    ]  # fmt: skip
    for name, item in evidence["families"].items():
        lines.append(f"| {name} | {item['calls']} | {item['exact']} | {item['worst']:+.2%} |")
    lines += ["", "## On the processor", "", "| row | takes | from | calls | exact | worst | above its bound |",
              "|---|---|---|---:|---:|---:|---:|"]  # fmt: skip
    table = {row.name: row for row in workspaces.rows().values()}
    for row in sorted({row.name: row for row in table.values() if row.device == "cpu"}.values(), key=lambda r: r.name):
        item = evidence["rows"].get(row.name, {"calls": 0, "exact": 0, "worst": 0.0, "above": 0})
        formula = "nothing" if row.formula == "0" else row.formula
        origin = row.source.partition("; measured")[0]
        lines.append(
            f"| {row.name} | {formula} | {origin} | {item['calls']} | {item['exact']} | {item['worst']:+.2%} "
            f"| {item['above']} |"
        )
    lines += ["", "## On cards", "", "Read from PyTorch's source; no card was at hand. Where a recorded trace shows "
              "the same allocation, the row says so.", "", "| row | takes | from |", "|---|---|---|"]  # fmt: skip
    for row in sorted((row for row in table.values() if row.device == "cuda"), key=lambda r: r.name):
        formula = "nothing" if row.formula == "0" else row.formula
        lines.append(f"| {row.name} | {formula} | {row.source.partition('; not measured')[0]} |")
    lines += [
        "", "cuBLAS keeps a workspace for each thread that multiplies, one of the forward, one of autograd's: "
        "8,519,680 bytes each, 33,554,432 on Hopper (`workspaces.persistent`). cuBLASLt shares it from PyTorch 2.14; "
        "before, it took 1 MiB of its own.", "", "## Without a row", "",
        "Operators of the sweep of which no rule is known: "
        + (", ".join(f"`{name}`" for name in evidence["without"]) or "none") + ".", "",
    ]  # fmt: skip
    return "\n".join(lines)


def main() -> None:
    """Run the sweep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("families", nargs="*", metavar="FAMILY", help=", ".join(FAMILIES))
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--write", action="store_true")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(asked.threads)
    torch.manual_seed(0)
    by_row: dict[str, Tally] = {}
    without: dict[str, Tally] = {}
    families = {}
    for name in asked.families or FAMILIES:
        item = families[name] = tally(measured(FAMILIES[name]()), by_row, without)
        print(f"{name:14} {item.calls:5} calls  {item.exact:5} exact  worst {item.worst:+8.2%}  above {item.above}")
    evidence = {
        "machine": f"torch {torch.__version__}, {torch.backends.cpu.get_cpu_capability()}, {asked.threads} threads",
        "families": {name: _plain(item) for name, item in families.items()},
        "rows": {name: _plain(item) for name, item in sorted(by_row.items())},
        "without": sorted(without),
    }
    for name, item in sorted(without.items()):
        print(f"no row: {name} ({item.calls} calls, at most {item.largest:,} bytes)")
    if asked.write:
        EVIDENCE.write_text(json.dumps(evidence, indent=1, sort_keys=True) + "\n")
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(evidence))


def _plain(item: Tally) -> dict[str, Any]:
    return {"calls": item.calls, "exact": item.exact, "worst": round(item.worst, 4), "above": item.above,
            "largest": item.largest, "operators": len(item.operators)}  # fmt: skip


if __name__ == "__main__":
    main()
