"""The table of Pisarchyk and Lee (2020) beside ours: naive sums and lower bounds of the zoo's networks among theirs.

    python -m benchmarks.published_bounds            print
    python -m benchmarks.published_bounds --write    write docs/concepts/published-bounds.md

The paper plans intermediate tensors of TFLite files: 1,001 classes and a softmax at the end, its own input not counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from peakmem.binding import bound
from peakmem.conventions import CONVENTIONS
from peakmem.ir.graph import Graph, Operator, Tensor
from peakmem.pipeline import load
from peakmem.study import Study

MIB = 2**20
PAGE = Path(__file__).parent.parent / "docs" / "concepts" / "published-bounds.md"


@dataclass(frozen=True, slots=True)
class Printed:
    """A row of the paper, in MiB."""

    network: str
    naive: str
    bound: str


PRINTED = (Printed("mobilenet_v1", "19.248", "4.594"), Printed("mobilenet_v2", "26.313", "5.742"))
# arXiv:2001.03288, tables 1 and 2; DeepLab v3, Inception v3, PoseNet and BlazeFace are not built in


def with_softmax(graph: Graph) -> Graph:
    """`graph` with a softmax behind its only output."""
    (last,) = graph.outputs
    made = Tensor("probabilities", graph.tensors[last].shape, graph.tensors[last].dtype)
    return Graph(
        graph.name, {**graph.tensors, made.name: made},
        (*graph.operators, Operator("softmax", "Softmax", (last,), (made.name,), {"axis": -1})),
        graph.inputs, (made.name,), graph.opsets, graph.defaults, graph.source,
    )  # fmt: skip


def rows(network: str) -> Iterator[tuple[str, int, int]]:
    """(reading, naive sum, lower bound) in bytes, from our own network to the paper's."""
    ours = bound(load(network), batch=1)
    theirs = bound(load(f"{network}:classes=1001"), batch=1)
    for said, graph, inputs in (
        ("1,000 classes, every operator a buffer (eager), input counted", ours, True),
        ("1,000 classes, norm and activation fused, input counted", ours, True),
        ("1,000 classes, fused, input not counted", ours, False),
        ("1,001 classes, fused, input not counted", theirs, False),
        ("1,001 classes and a softmax, fused, input not counted", with_softmax(theirs), False),
    ):
        study = Study(graph)
        eager = "eager" in said
        naive = CONVENTIONS["sum_outputs" if eager else "sum_outputs_fused"].compute(study).nbytes
        image = sum(graph.tensors[name].nbytes or 0 for name in graph.inputs)
        yield said, naive + inputs * image, study.timeline("eager" if eager else "fused").peak_bytes


def lines() -> Iterator[str]:
    """The page."""
    yield "# Published naive sums and lower bounds"
    yield ""
    yield "Pisarchyk and Lee (*Efficient Memory Management for Deep Neural Net Inference*, arXiv:2001.03288) plan the"
    yield "intermediate tensors of TFLite files. Their *naive* figure is a buffer for each tensor, their *lower bound*"
    yield "the most bytes alive at one operator; both in MiB, printed as MB. Two of their six networks are built in."
    yield "Each row below is computed; the last reading is theirs, to the last printed digit."
    yield ""
    yield "| network | reading | naive sum (B) | MiB | lower bound (B) | MiB |"
    yield "|---|---|---:|---:|---:|---:|"
    for printed in PRINTED:
        for said, naive, least in rows(printed.network):
            yield f"| {printed.network} | {said} | {naive:,} | {naive / MIB:.3f} | {least:,} | {least / MIB:.3f} |"
        yield f"| {printed.network} | **printed in the paper** | | **{printed.naive}** | | **{printed.bound}** |"
    yield ""
    yield "What lies between: an engine that fuses norms and activations has a third of the buffers; TFLite's networks"
    yield "have a class more (background), which is 4 B, and a softmax of 4,004 B; their input is the caller's."
    yield "The lower bound does not move with any of the last three, because the first blocks decide it. It is what"
    yield "`live_fused` is here: no plan of offsets can be lower, and [live ranges](live-ranges.md) say why."
    yield ""
    yield "Written by `python -m benchmarks.published_bounds --write`."


def run() -> None:
    """Print or write the page; fail when a printed digit is not met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    for printed in PRINTED:
        _, naive, least = list(rows(printed.network))[-1]
        assert (f"{naive / MIB:.3f}", f"{least / MIB:.3f}") == (printed.naive, printed.bound), printed
    text = "\n".join(lines()) + "\n"
    if parser.parse_args().write:
        PAGE.write_text(text, encoding="utf-8")
    else:
        print(text, end="")


if __name__ == "__main__":
    run()
