"""Run other tools on the networks that peakmem has built in, and print what each says beside it.

    pip install '.[onnx]' torch torchvision torchinfo torchsummary fvcore onnx-tool
    python docs/peers.py

Prints the tables of docs/comparison.md. Not part of the package and not run by its tests: torch and
its friends are large. A tool that is not installed, or that fails, is a cell that says so.
"""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peakmem
from peakmem.zoo import build
from peakmem.zoo.export import export_onnx

TORCHVISION = ("vgg16", "resnet50", "densenet161", "mobilenet_v2")
PACKAGES = ("torch", "torchvision", "torchinfo", "torchsummary", "fvcore", "onnx-tool")
EXPORTED = ("mobilenet_v1", "mobilenet_v2", "resnet50", "densenet161", "unet_256")


def said(ask: Callable[[], object]) -> str:
    """What `ask` returns, or how it failed."""
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            value = ask()
    except Exception as fault:
        return f"fails: {type(fault).__name__}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> None:
    print(f"| {' | '.join(columns)} |\n| --- |{' ---: |' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print()


def network(name: str) -> tuple[Any, Any]:
    """A torchvision network in evaluation mode, and one image."""
    import torch
    import torchvision

    return getattr(torchvision.models, name)().eval(), torch.zeros(1, 3, 224, 224)


def torchinfo_bytes(name: str) -> int:
    import torchinfo

    model, image = network(name)
    return int(torchinfo.summary(model, input_data=image, verbose=0).total_output_bytes)


def torchsummary_mebibytes(name: str) -> str:
    import torchsummary

    model, _ = network(name)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        torchsummary.summary(model, (3, 224, 224), device="cpu")
    found = re.search(r"Forward/backward pass size \(MB\): ([\d.]+)", text.getvalue())
    assert found is not None
    return found.group(1)


def fvcore_elements(name: str) -> int:
    from fvcore.nn import ActivationCountAnalysis

    model, image = network(name)
    return int(ActivationCountAnalysis(model, image).unsupported_ops_warnings(False).total())


def torch_peak_bytes(name: str) -> int:
    """The most bytes of activations and inputs alive in a run of PyTorch on the CPU, by its own tracker."""
    import torch
    from torch.distributed._tools.mem_tracker import MemTracker

    model, image = network(name)
    tracker = MemTracker()
    tracker.track_external(model, image)
    with torch.no_grad(), tracker:
        model(image)
    (peak,) = tracker.get_tracker_snapshot("peak").values()
    stored = sum(tensor.numel() * tensor.element_size() for tensor in (*model.parameters(), *model.buffers()))
    return int(peak["Total"]) - stored


def onnx_tool_figures(path: Path) -> str:
    """The Memory column's total and the size that compress_memory returns, bytes."""
    import onnx_tool

    graph = onnx_tool.loadmodel(str(path), {"verbose": False}).graph
    graph.shape_infer(None)
    graph.profile()
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        graph.print_node_map()
    total = next(line for line in text.getvalue().splitlines() if line.startswith("Total"))
    memory = re.findall(r"[\d,]{4,}", total)[1]
    return f"{memory} {int(graph.get_compute_graph().compress_memory()[1]):,}"


def main() -> None:
    """Print the tables."""
    warnings.simplefilter("ignore")
    versions = [f"{name} {said(partial(version, name))}" for name in PACKAGES]
    print(", ".join((f"peakmem {peakmem.__version__}", *versions)), end="\n\n")
    reports = {name: peakmem.estimate(name) for name in {*TORCHVISION, *EXPORTED}}

    def same(convention: str, name: str) -> int:
        return reports[name].convention(convention).nbytes

    rows = []
    for name in TORCHVISION:
        ours = (same("torchinfo", name), same("torchsummary", name) / 2**20, same("sum_outputs_conv_linear", name) // 4)
        theirs = [said(partial(ask, name)) for ask in (torchinfo_bytes, torchsummary_mebibytes, fvcore_elements)]
        rows.append((name, theirs[0], f"{ours[0]:,}", theirs[1], f"{ours[1]:.2f}", theirs[2], f"{ours[2]:,}"))
    table(
        ("network", "torchinfo, bytes", "peakmem torchinfo", "torchsummary, MiB", "peakmem torchsummary",
         "fvcore, elements", "peakmem sum_outputs_conv_linear / 4"),
        rows,
    )  # fmt: skip
    rows = []
    for name in TORCHVISION:
        held = peakmem.estimate(name, assume="inplace", hold_inputs=True).peak_bytes
        rows.append((name, said(partial(torch_peak_bytes, name)), f"{same('live_inplace', name):,}", f"{held:,}"))
    table(("network", "PyTorch's own peak, bytes", "peakmem live_inplace", "the same, inputs held"), rows)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in EXPORTED:
            path = export_onnx(build(name), Path(folder) / f"{name}.onnx")
            figures = said(partial(onnx_tool_figures, path))
            memory, _, arena = figures.partition(" ") if figures[:1].isdigit() else (figures, "", "")
            live = same("live_naive", name)
            over = f"{int(arena.replace(',', '')) / live - 1:+.1%}" if arena else ""
            stored = reports[name].weights_bytes + same("sum_outputs", name)
            rows.append((name, memory, f"{stored:,}", arena, f"{live:,}", over))
    table(
        ("network", "onnx-tool Memory total", "peakmem weights + sum_outputs", "onnx-tool compress_memory",
         "peakmem live_naive", "compress_memory over live_naive"),
        rows,
    )  # fmt: skip


if __name__ == "__main__":
    main()
