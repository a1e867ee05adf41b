"""Which networks reach which engine's format, and whether the converted file still computes the same.

    python benchmarks/conversions.py --kept cells.json         every network, every format; an hour on two cores
    python benchmarks/conversions.py resnet18 --columns ncnn,mnn

Prints a Markdown table of the files' sizes; where a network does not get there, a number, and below the table why. In
brackets the largest difference of the answer, in parts of the largest value: of ncnn, OpenVINO, MNN and the PyTorch
source, with the ONNX file's weights in it, from ONNX Runtime's on the ONNX file; of ExecuTorch and TFLite files from
PyTorch's on the source they were made from. ≠ marks a file that computes something else. An int8 file is calibrated
with random inputs and rounds: its difference is shown and carries no mark.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from peakmem.conversion import convert
from peakmem.errors import PeakmemError
from peakmem.units import format_bytes
from peakmem.zoo import NETWORKS

COLUMNS = {
    "onnx": ("onnx", {}),
    "ncnn": ("ncnn", {}),
    "openvino": ("openvino", {}),
    "mnn": ("mnn", {}),
    "torch source": ("torch", {}),
    "pte portable": ("pte", {"backend": "portable"}),
    "pte xnnpack": ("pte", {"backend": "xnnpack"}),
    "tflite float": ("tflite", {}),
    "tflite int8": ("tflite", {"quantise": "int8"}),
}
# heading -> kind, options
ROUNDED = ("tflite int8",)
WRONG = 1e-3
# from here on a difference, in parts of the largest value, is marked


def difference(kind: str, path: str, ports: dict, reference: str, against: str, its_ports: dict) -> float:
    """The largest difference of any output of `path` from that of `against`, in parts of the largest value."""
    import numpy as np
    from tests.unit.conversion.answers import answers

    rng = np.random.default_rng(0)
    values = {}
    for name, (shape, dtype) in its_ports.items():
        whole = rng.integers(0, 50, shape) if "int" in dtype else rng.standard_normal(shape)
        values[name] = whole.astype(dtype)
    fed = {
        name: value.reshape(shape).astype(value.dtype if dtype == "int8" else dtype)
        for (name, (shape, dtype)), value in zip(ports.items(), values.values(), strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        wanted = answers(reference, against, values, Path(folder))
        found = answers(kind, path, fed, Path(folder))
    worst = 0.0
    for one, other in zip(found, wanted, strict=False):
        if one.size != other.size:
            return float("inf")
        worst = max(worst, float(np.abs(one.reshape(other.shape) - other).max() / max(np.abs(other).max(), 1e-9)))
    return worst if np.isfinite(worst) else float("inf")


def cell(network: str, column: str, cache: str, timeout: float) -> tuple[str, str]:
    """(what stands in the table, why there is nothing)."""
    kind, options = COLUMNS[column]
    try:
        made = convert(network, kind, options=options, cache=cache, timeout=timeout)
        size = format_bytes(made.steps[-1].nbytes)
        if kind == "onnx":
            return size, ""
        path, shapes = made.path, made.input_shapes
        if kind in ("pte", "tflite"):
            reference = "torch"
        else:
            reference, kind = "onnx", "torch_source" if kind == "torch" else kind
        origin = convert(network, reference, cache=cache)
        if kind == "torch_source":
            path, shapes = origin.path, origin.input_shapes
        apart = difference(kind, path, shapes, reference, origin.path, origin.input_shapes)
    except (PeakmemError, RuntimeError) as fault:
        return "", getattr(fault, "what", str(fault)).strip().replace("\n", " ")
    return f"{size} {'' if apart < WRONG or column in ROUNDED else '≠ '}({apart:.0e})", ""


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=list(NETWORKS))
    parser.add_argument("--columns", default=",".join(COLUMNS))
    parser.add_argument("--cache", help="folder for what is converted; a temporary one unless told")
    parser.add_argument("--kept", type=Path, help="JSON file with the cells of earlier runs, which are not made again")
    parser.add_argument("--timeout", type=float, default=900, help="seconds for a step")
    given = parser.parse_args()
    columns = given.columns.split(",")
    kept: dict[str, Any] = {}
    if given.kept is not None and given.kept.exists():
        kept = json.loads(given.kept.read_text(encoding="utf-8"))
    reasons: dict[str, int] = {}
    print(f"| network | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        for network in given.networks:
            row = kept.setdefault(network, {})
            shown = []
            for column in columns:
                if column not in row:
                    begun = time.monotonic()
                    row[column] = cell(network, column, given.cache or temporary, given.timeout)
                    seconds = time.monotonic() - begun
                    print(f"{network} {column}: {' '.join(row[column])}, {seconds:.1f} s", file=sys.stderr, flush=True)
                    if given.kept is not None:
                        given.kept.write_text(json.dumps(kept, indent=1, ensure_ascii=False), encoding="utf-8")
                size, why = row[column]
                shown.append(size or f"[{reasons.setdefault(why, len(reasons) + 1)}]")
            print(f"| {network} | {' | '.join(shown)} |", flush=True)
    print()
    for text, number in reasons.items():
        print(f"{number}. {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
