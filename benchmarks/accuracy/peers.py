"""Other tools and peakmem beside measured processes: what each says a network needs, and how far off that is.

    pip install torchinfo==1.8.0 onnx-tool==1.0.1 prettytable
    git clone https://github.com/oxmlsys/tflite-tools           # 3545ab1, of July 2020
    python -m benchmarks.accuracy.peers --tflite-tools tflite-tools --json benchmarks/accuracy/peers.json

Needs the conversions of measuring and `measured/`; nothing is measured here. A tool that is not there, or that fails,
is a cell that says so. Each is given the file that suits it, and what it says is split into weights and the rest:
weights are left out where the engine leaves them in the file or in flash, and added to what a tool says of activations
alone where the engine holds them, which is the best that each can be made to say.
"""

from __future__ import annotations

import argparse
import json
import re
import runpy
import subprocess
import sys
import warnings
from collections.abc import Callable
from functools import cache, partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.accuracy.cells import networks
from benchmarks.accuracy.measure import lines, processor

import peakmem
from peakmem.conversion.route import convert
from peakmem.measuring.summary import LAG_BYTES
from peakmem.prediction import predict

Said = tuple[int, int] | str
# (bytes of weights, bytes beside them), or why there is nothing
OURS, HAND, TFLITE_TOOLS = "peakmem", "weights + live peak", "tflite-tools"
SAYS = {
    OURS: "heap peak of the profile, from the file and the settings; for the process a measured baseline added",
    HAND: "`peakmem.estimate` of the network, for LiteRT and TFLM of the .tflite: weights + the most activations alive",
    "torchinfo": "Estimated Total Size: input + parameters + 2 × outputs of modules that own parameters; not a peak",
    "torchinfo, pass once": "the same with outputs once: its 2 is for gradients, in evaluation mode too",
    "onnx-tool": "Memory, total: weights + all outputs of all operators; not a peak",
    "onnx-tool, packed": "weights + compress_memory(): the height of its first-fit packing of activations",
    TFLITE_TOOLS: "Current peak memory usage of the .tflite: the most activations alive in order; weights added here",
}
TOOLS = tuple(SAYS)
COLUMNS = {
    "ONNX Runtime": ("onnxruntime", "defaults", True),
    "ncnn": ("ncnn", "defaults", True),
    "LiteRT, XNNPACK": ("litert", "defaults", True),
    "LiteRT, reference": ("litert", "kernels=reference", False),
    "PyTorch eager": ("pytorch", "defaults", True),
    "TFLM": ("tflm", "defaults", False),
    "TFLM, int8": ("tflm", "quantise=int8", False),
}
# engine, cell of `measured/`, whether it holds weights in the memory that is measured
FIGURES = {
    "heap": "heap peak above the engine's own, by the counter; for TFLM what is used of the arena",
    "process": "anonymous memory of the whole process at its resident peak: Python, engine and network",
}
HEAD = """\
### Other tools, held against the same processes

`python -m benchmarks.accuracy.peers`, with {} and tflite-tools 3545ab1; float32 but where int8 is said.

| tool | what it says |
| --- | --- |"""


def main() -> None:
    """Ask all, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tflite-tools", type=Path, help="a checkout of github.com/oxmlsys/tflite-tools")
    parser.add_argument("--json", type=Path, help="save here, too")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    data = collect(given.tflite_tools)
    if given.json:
        given.json.write_text(json.dumps(data, indent=0) + "\n", "utf-8")
    print(page_table(data))


def collect(checkout: Path | None) -> dict[str, Any]:
    """Everything that is printed: per engine and network what was measured and what each tool says, in bytes."""
    rows = []
    for column, (engine, cell, holds) in COLUMNS.items():
        measured = {line["network"]: line for line in lines(engine) if line["cell"] == cell}
        rules, untouched = networks(engine)
        for network in (*rules, *untouched):
            told = ask(network, cell if "int8" in cell else "float32", checkout, tflite=engine in ("litert", "tflm"))
            said = {name: one if isinstance(one, str) else one[0] * holds + one[1] for name, one in told.items()}
            row = {"engine": column, "network": network, "group": "untouched" if network in untouched else "rules"}
            seen = {"measured": _measured(engine, measured.get(network))}
            rows.append({**row, **seen, "said": {OURS: _ours(engine, network, cell), **said}})
            print(*rows[-1].values(), file=sys.stderr, flush=True)
    return {"versions": {name: _tried(partial(version, name)) for name in ("torchinfo", "onnx-tool")}, "rows": rows}


def ask(network: str, weights: str, checkout: Path | None, *, tflite: bool) -> dict[str, Said]:
    """What each of the other tools says of a network; `tflite` is whether the engine loads such a file."""
    path = _tried(lambda: convert(network, "tflite", options={} if weights == "float32" else {"quantise": "int8"}).path)
    found: dict[str, Said] = {HAND: _tried(lambda: _by_hand(path if tflite else network))}
    found[TFLITE_TOOLS] = _tried(lambda: _tflite_tools(path, checkout)) if checkout else "not installed"
    for names, get in ((TOOLS[2:4], _torchinfo), (TOOLS[4:6], _onnx_tool)):
        both = _tried(partial(get, network)) if weights == "float32" else "no int8 file"
        found |= dict(zip(names, (both, both) if isinstance(both, str) else both, strict=True))
    return found


def _by_hand(model: str) -> tuple[int, int]:
    report = peakmem.estimate(model)
    return report.weights_bytes, report.peak_bytes


@cache
def _torchinfo(network: str) -> tuple[Said, Said]:
    """Its total, and with outputs counted once."""
    torchinfo: Any = import_module("torchinfo")
    torch: Any = import_module("torch")
    module: Any = runpy.run_path(convert(network, "torch").path)
    ((_, _, shape),) = module["INPUTS"]
    told = torchinfo.summary(module["factory"]().eval(), input_data=torch.zeros(shape), verbose=0)
    weights, given, outputs = told.total_param_bytes, told.total_input, told.total_output_bytes
    return (weights, given + outputs), (weights, given + outputs // 2)


@cache
def _onnx_tool(network: str) -> tuple[Said, Said]:
    """The total of its column Memory, and its packing."""
    onnx_tool: Any = import_module("onnx_tool")
    graph = onnx_tool.loadmodel(convert(network, "onnx").path, {"verbose": False}).graph
    try:
        graph.shape_infer(None)
    except AssertionError:
        # its Shape has no `start` (opset 15), which channel shuffles are written with here
        graph = onnx_tool.loadmodel(_without_shape(convert(network, "onnx").path), {"verbose": False}).graph
        graph.shape_infer(None)
    graph.profile()
    weights = int(sum(graph.tensormap[name].get_memsize() for name in graph.initials))
    return (weights, int(graph.memory) - weights), (weights, int(graph.get_compute_graph().compress_memory()[1]))


def _without_shape(path: str) -> Any:
    """The model with each Shape, of sizes that are known, written as its value."""
    onnx: Any = import_module("onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(path), data_prop=True)
    shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in model.graph.value_info}
    for node in model.graph.node:
        if node.op_type == "Shape":
            limits = {attribute.name: attribute.i for attribute in node.attribute}
            value = shapes[node.input[0]][limits.get("start", 0) : limits.get("end")]
            kept = onnx.helper.make_tensor("", onnx.TensorProto.INT64, [len(value)], value)
            node.CopyFrom(onnx.helper.make_node("Constant", [], list(node.output), name=node.name, value=kept))
    return model


@cache
def _tflite_tools(path: str, checkout: Path) -> Said:
    call = [sys.executable, "tflite_tools.py", "-i", path]
    words = subprocess.run(call, cwd=checkout, capture_output=True, text=True, check=True).stdout.split()
    return _by_hand(path)[0], int(words[-2].replace(",", ""))


def _ours(engine: str, network: str, cell: str) -> dict[str, int] | str:
    """What the profile says: {"heap": bytes, "process": bytes}, or why it says nothing."""
    try:
        settings = [] if cell == "defaults" else [cell]
        (one,) = predict(network, engines=[engine], settings=settings, processor=processor()).candidates
    except Exception as fault:
        return f"fails: {type(fault).__name__}"
    if one.outcome != "predicted":
        return re.sub(r"/\S+/", "", f"{one.outcome}: {one.reason}")[:100]
    heap = (one.details or {})["total"] if engine == "tflm" else one.heap_peak_bytes
    return {"heap": heap, **({"process": one.process_bytes} if one.process_bytes and engine != "tflm" else {})}


def _measured(engine: str, line: dict[str, Any] | None) -> dict[str, int]:
    """Of one measured cell; empty where it was not measured."""
    if line is None or not line["heap"] or not line["resident"]:
        return {}
    if engine == "tflm":
        # what the interpreter used of its arena, by its own account: at most 15 bytes below the smallest that runs
        return {"heap": int(line["facts"]["total"])}
    (top,) = (mark for phase, mark in line["resident"][0].items() if phase != "import")
    highest = max(top["VmHWM"], top["VmRSS"]) - top["RssFile"]
    anonymous = highest if highest > top["RssAnon"] + LAG_BYTES else top["RssAnon"]
    return {"heap": max(peak for _, peak in line["heap"].values()), "process": anonymous}


def page_table(data: dict[str, Any]) -> str:
    """What `collect` gave, as Markdown: who says what, ratios per engine and tool, errors per network."""
    groups = [(figure, group) for figure in FIGURES for group in ("untouched", "rules")]
    page = [HEAD.format(", ".join(f"{name} {one}" for name, one in data["versions"].items()))]
    page += [f"| {name} | {what} |" for name, what in SAYS.items()]
    outside = "; ".join(column for column, (_, _, holds) in COLUMNS.items() if not holds)
    page += ["", f"Weights are left out where the engine leaves them in the file or in flash: {outside}."]
    page += [f"*{figure}* is the {what}." for figure, what in FIGURES.items()]
    page += ["", "Said ÷ measured, min – median – max (networks):", ""]
    page += [f"| engine | tool | {' | '.join(map(', '.join, groups))} |", f"| --- | --- |{' ---: |' * len(groups)}"]
    for column in COLUMNS:
        for tool in TOOLS:
            spans = [_span(data["rows"], column, tool, figure, group) for figure, group in groups]
            page += [f"| {column} | {tool} | {' | '.join(spans)} |"] if any(spans) else []
    for column in COLUMNS:
        page += ["", f"{column}: heap measured, MB, and how far off each is, per cent:", ""]
        page += [f"| network | measured | {' | '.join(TOOLS)} |", f"| --- |{' ---: |' * (len(TOOLS) + 1)}"]
        for row in (row for row in data["rows"] if row["engine"] == column):
            seen = row["measured"].get("heap")
            name = f"*{row['network']}*" if row["group"] == "untouched" else row["network"]
            cells = [f"{seen / 1e6:,.2f}" if seen else "no", *(_cell(_of(row, tool, "heap"), seen) for tool in TOOLS)]
            page += [f"| {name} | {' | '.join(cells)} |"]
    return "\n".join((*page, "", "Untouched networks in italics; MB are 10⁶ B."))


def _span(rows: list[dict[str, Any]], column: str, tool: str, figure: str, group: str) -> str:
    picked = [row for row in rows if row["engine"] == column and row["group"] == group]
    pairs = [(_of(row, tool, figure), row["measured"].get(figure)) for row in picked]
    found = [said / seen for said, seen in pairs if isinstance(said, int) and seen]
    return f"{min(found):.3f} – {median(found):.3f} – {max(found):.3f} ({len(found)})" if found else ""


def _of(row: dict[str, Any], tool: str, figure: str) -> Any:
    """What a tool says for one row, bytes or a text; all but ours say one number, whatever is measured."""
    said = row["said"][tool]
    return said.get(figure, "") if isinstance(said, dict) else said


def _cell(said: int | str, seen: int | None) -> str:
    if isinstance(said, str):
        return said.replace("|", "/")
    return f"{(said / seen - 1) * 100:+.1f}" if seen else f"{said / 1e6:,.2f} MB"


def _tried(get: Callable[[], Any]) -> Any:
    """What `get` gives, or a text that says why it gives nothing."""
    try:
        return get()
    except Exception as fault:
        return "not installed" if isinstance(fault, ModuleNotFoundError) else f"fails: {type(fault).__name__}"


if __name__ == "__main__":
    main()
