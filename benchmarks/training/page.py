"""The generated part of docs/training/accuracy.md: who says what, the groups, every cell, categories at the peak."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN, END = (
    "<!-- steps: begin, written by python -m benchmarks.training.compare --write -->",
    "<!-- steps: end -->",
)
FIRST = Path(__file__).with_name("first_shots.jsonl")
# errors of untouched networks when they were predicted for the first time; never written again
MACHINE = Path(__file__).parent / "measured/machine.json"
PEERS = ("MemTracker", "torchinfo")
HEAD = """\
## Training steps on the processor, predicted and run

A cell is one network with one optimizer and one way to train, two whole steps of it. Measured is the most that torch's
allocator had handed out at once, by its own events under the profiler, which was started before the model existed;
these figures repeat to the byte. Predicted is the same step traced on tensors without memory. Errors are predicted ÷
measured - 1, so that a minus is too low. {machine}, torch {torch}, {threads} threads.

*Untouched* networks were never looked at while rules were made: {untouched}.
The others were: {rules}. Those that
`peakmem` has not built in are in `benchmarks/training/models.py` and `steps.py`.

MemTracker is torch's own (`torch.distributed._tools.mem_tracker`), told of the same two steps under FakeTensorMode;
torchinfo's figure is its *Estimated Total Size*, which knows no optimizer and no step.

```sh
python -m benchmarks.training.measure              # train what benchmarks/training/measured does not hold
python -m benchmarks.training.peers                # ask MemTracker and torchinfo
python -m benchmarks.training.compare --write      # predict, compare, write this part of the page
```
"""


def write(page: Path, rows: list[dict[str, Any]], statistics: dict[str, Any]) -> None:
    """Put the part between its marks in `page`; a page without marks gets it at its end."""
    text = page.read_text("utf-8") if page.exists() else "# Accuracy of training\n\n"
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    part = "\n".join([BEGIN, "", *_part(rows, statistics), END])
    page.parent.mkdir(exist_ok=True)
    page.write_text(before + part + (after or "\n"), encoding="utf-8")


def _part(rows: list[dict[str, Any]], statistics: dict[str, Any]) -> Iterator[str]:
    at = json.loads(MACHINE.read_text("utf-8"))
    names = {group: list(dict.fromkeys(row["network"] for row in rows if row["group"] == group)) for group in _groups()}
    first = rows[0]["measured"]
    yield HEAD.format(
        machine=f"{at['processor']}{' with AVX-512' if 'avx512f' in at['features'] else ''}, {at['python']}",
        torch=first["torch"], threads=first["threads"],
        **{group: ", ".join(f"`{_short(name)}`" for name in those) for group, those in names.items()},
    )  # fmt: skip
    yield "| group | who | n | median | p90 | max | lowest | highest | below | equal | within 0.01 % | within 1 % |"
    yield "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    for group, found in statistics.items():
        for who in ("peakmem", *PEERS):
            if one := found[who]:
                sizes = " | ".join(f"{one[key]:.4%}" for key in ("median", "p90", "max"))
                signed = " | ".join(f"{one[key]:+.4%}" for key in ("lowest", "highest"))
                counts = " | ".join(str(one[key]) for key in ("below", "exact", "within 0.01 %", "within 1 %"))
                yield f"| {group} | {who} | {one['n']} | {sizes} | {signed} | {counts} |"
    yield ""
    yield f"The upper bound was exceeded in {statistics['all']['bound exceeded']} cells."
    yield ""
    yield from _first_shots()
    yield from _by_category(rows)
    for network in dict.fromkeys(row["network"] for row in rows):
        yield from _network([row for row in rows if row["network"] == network])
    refused = [row for row in rows if "refused" in row]
    for reason in dict.fromkeys(row["refused"] for row in refused):
        those = [f"`{_short(row['network'])}` {row['setting']}" for row in refused if row["refused"] == reason]
        yield f"Not predicted: {', '.join(those)}: {reason}."
        yield ""


def _first_shots() -> Iterator[str]:
    """What untouched is worth: the figures before any rule was corrected by what these networks showed."""
    lines = [json.loads(line) for line in FIRST.read_text("utf-8").splitlines()]
    yield "Untouched networks when they were predicted for the first time; where that showed a rule that was wrong or"
    yield "missing, it was corrected for all, and the other figures of this page are those after it:"
    yield ""
    yield "| network | cells | equal within 0.0001 % | lowest | highest |"
    yield "|---|---:|---:|---:|---:|"
    for network in dict.fromkeys(line["network"] for line in lines):
        errors = [line["error"] for line in lines if line["network"] == network]
        equal = sum(abs(one) < 1e-6 for one in errors)
        yield f"| `{_short(network)}` | {len(errors)} | {equal} | {min(errors):+.4%} | {max(errors):+.4%} |"
    yield ""


def _groups() -> tuple[str, str]:
    return "untouched", "rules"


def _short(name: str) -> str:
    return name.partition(":")[2] or name


def _by_category(rows: list[dict[str, Any]]) -> Iterator[str]:
    done = [row for row in rows if "predicted" in row]
    yield "What is alive at the peak, category by category, each side at its own peak; the largest difference is told"
    yield "as a share of the measured peak. Results that a kernel has made while it still works are temporary where"
    yield "they are measured and counted with its workspace where they are predicted:"
    yield ""
    yield "| category | cells with any | equal | largest | in |"
    yield "|---|---:|---:|---:|---|"
    for category in dict.fromkeys(name for row in done for name in row["measured"]["categories"]):
        found = []
        for row in done:
            pair = [row[side]["categories"].get(category, 0) for side in ("predicted", "measured")]
            if any(pair):
                found.append(((pair[0] - pair[1]) / row["measured"]["peak"][0], row))
        worst, where = max(found, key=lambda one: abs(one[0]))
        place = f"`{_short(where['network'])}` {where['setting']}" if worst else ""
        yield f"| {category} | {len(found)} | {sum(not one for one, _ in found)} | {worst:+.4%} | {place} |"
    yield ""


def _network(rows: list[dict[str, Any]]) -> Iterator[str]:
    yield f"### {_short(rows[0]['network'])}"
    yield ""
    yield "| setting | measured, MiB | at | predicted | MemTracker | torchinfo |"
    yield "|---|---:|---|---:|---:|---:|"
    for row in rows:
        nbytes, step, phase, *_ = row["measured"]["peak"]
        ours = "refused" if "refused" in row else f"{_share(row['predicted']['peak'][0], nbytes)}"
        others = " | ".join(
            _share(said, nbytes) if isinstance(said := row["peers"].get(name), int) else "fails" for name in PEERS
        )
        yield f"| {row['setting']} | {nbytes / 2**20:,.2f} | {phase} {step} | {ours} | {others} |"
    yield ""


def _share(said: int, measured: int) -> str:
    return f"{(said - measured) / measured:+.4%}" if said != measured else "equal"
