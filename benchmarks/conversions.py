"""Which networks reach which engine's format, and whether the converted file still computes the same.

    python benchmarks/conversions.py                        every network, every kind; a quarter of an hour
    python benchmarks/conversions.py resnet18 --kinds ncnn,mnn

Prints a Markdown table of the files' sizes; where a network does not get there, a number, and below the table why. The
answers of ncnn, OpenVINO and MNN are held against ONNX Runtime's on the ONNX file the others were made from; ≠ marks
a file that computes something else.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peakmem.conversion import convert
from peakmem.errors import PeakmemError
from peakmem.units import format_bytes

NETWORKS = (
    "alexnet", "densenet161", "googlenet", "gpt2_small:context=128", "lstm_2layer", "mobilenet_v1", "mobilenet_v2",
    "resnet18", "resnet50", "shufflenet_v2", "squeezenet1_1", "unet_256", "vgg16", "vit_s16",
)  # fmt: skip
KINDS = ("onnx", "ncnn", "openvino", "mnn", "torch", "pte", "tflite")
COMPARED = ("ncnn", "openvino", "mnn")
WRONG = 1e-3
# from here on a difference, in parts of the largest value, is marked


def difference(kind: str, path: str, ports: dict, onnx: str, onnx_ports: dict) -> float:
    """The largest difference of any output from ONNX Runtime's, in parts of the largest value."""
    import numpy as np
    from tests.unit.conversion.answers import answers

    rng = np.random.default_rng(0)
    values = {}
    for name, (shape, dtype) in onnx_ports.items():
        whole = rng.integers(0, 50, shape) if "int" in dtype else rng.standard_normal(shape)
        values[name] = whole.astype(dtype)
    fed = {
        name: value.reshape(shape).astype(dtype)
        for (name, (shape, dtype)), value in zip(ports.items(), values.values(), strict=True)
    }
    with tempfile.TemporaryDirectory() as folder:
        wanted = answers("onnx", onnx, values, Path(folder))
        found = answers(kind, path, fed, Path(folder))
    worst = 0.0
    for one, other in zip(found, wanted, strict=False):
        if one.size != other.size:
            return float("inf")
        worst = max(worst, float(np.abs(one.reshape(other.shape) - other).max() / max(np.abs(other).max(), 1e-9)))
    return worst if np.isfinite(worst) else float("inf")


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=NETWORKS)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--cache", help="folder for what is converted; a temporary one unless told")
    parser.add_argument("--timeout", type=float, default=900)
    given = parser.parse_args()
    kinds = given.kinds.split(",")
    reasons: dict[str, int] = {}
    print(f"| network | {' | '.join(kinds)} |\n|---{'|---' * len(kinds)}|", flush=True)
    with tempfile.TemporaryDirectory() as temporary:
        cache = given.cache or temporary
        for network in given.networks:
            cells = []
            for kind in kinds:
                begun = time.monotonic()
                try:
                    made = convert(network, kind, cache=cache, timeout=given.timeout)
                    cell = format_bytes(made.steps[-1].nbytes)
                    if kind in COMPARED:
                        onnx = convert(network, "onnx", cache=cache)
                        apart = difference(kind, made.path, made.input_shapes, onnx.path, onnx.input_shapes)
                        cell += f" ({apart:.0e})" if apart < WRONG else f" ≠ ({apart:.0e})"
                except (PeakmemError, RuntimeError) as fault:
                    text = getattr(fault, "what", str(fault)).strip().replace("\n", " ")
                    cell = f"[{reasons.setdefault(text, len(reasons) + 1)}]"
                cells.append(cell)
                print(f"{network} {kind}: {cell}, {time.monotonic() - begun:.1f} s", file=sys.stderr, flush=True)
            print(f"| {network} | {' | '.join(cells)} |", flush=True)
    print()
    for text, number in reasons.items():
        print(f"{number}. {text}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
