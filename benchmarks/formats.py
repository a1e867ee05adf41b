"""Four networks in every format, each reading held against the built-in network.

    python benchmarks/formats.py
    python benchmarks/formats.py --tensorflow PYTHON    that interpreter has TensorFlow and writes the .tflite files

Needs torch, onnx and keras; rows of formats whose writer (pnnx, TensorFlow) is missing are left out and
said to be. Exits with 1 when a live peak or the parameters (norms folded) differ without a reason below.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "torch")
sys.path.insert(0, str(Path(__file__).resolve().parent))

import peakmem

SHAPE = (1, 3, 224, 224)


def sources(name: str, folder: Path, tensorflow: str) -> Iterator[tuple[str, object, dict[str, object]]]:
    """(format, what to read, arguments of compare) for each format that can be written here."""
    import torch
    from networks import in_keras, in_torch

    module = in_torch.build(name)
    example = torch.zeros(SHAPE)
    peakmem_onnx = folder / f"{name}.zoo.onnx"
    from peakmem.zoo import build
    from peakmem.zoo.export import export_onnx

    export_onnx(build(name), peakmem_onnx)
    yield "ONNX, zoo export", peakmem_onnx, {}
    onnx = folder / f"{name}.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (example,), onnx, dynamo=False)
    yield "ONNX, torch.onnx", onnx, {}
    yield "PyTorch module", module, {"inputs": [SHAPE]}
    program = folder / f"{name}.pt2"
    torch.export.save(torch.export.export(module, (example,)), program)
    yield "PyTorch .pt2", program, {}
    keras = folder / f"{name}.keras"
    in_keras.build(name).save(keras)
    yield "Keras .keras", keras, {}
    script = folder / f"{name}.pt"
    try:
        import pnnx

        torch.jit.trace(module, example).save(script)
        shape = ",".join(map(str, SHAPE))
        subprocess.run(
            [pnnx.EXEC_PATH, str(script), f"inputshape=[{shape}]", "fp16=0"], check=True, capture_output=True
        )
        yield "ncnn, pnnx", folder / f"{name}.ncnn.param", {"shapes": (None, {"in0": SHAPE[1:]})}
        yield "pnnx", folder / f"{name}.pnnx.param", {}
    except ImportError:
        print(f"| {name} | ncnn, pnnx | left out: no pnnx | | | |")
    if tensorflow:
        tflite = folder / f"{name}.tflite"
        if not tflite.exists():
            writer = Path(__file__).parent / "networks" / "in_keras.py"
            environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
            subprocess.run(
                [tensorflow, str(writer), str(folder), "--tflite"], check=True, capture_output=True, env=environment
            )
        yield "TFLite", tflite, {}
    else:
        print(f"| {name} | TFLite | left out: no --tensorflow | | | |")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tensorflow", default="", metavar="PYTHON")
    parser.add_argument("--network", action="append")
    options = parser.parse_args()
    from networks import NAMES

    print(
        "| network | read from | parameters | norms folded | live peak, fused (B) | live peak, eager (B) | the same |"
    )
    print("|---|---|---:|---:|---:|---:|---|")
    remarks = []
    good = True
    with tempfile.TemporaryDirectory() as scratch:
        here = Path.cwd()
        os.chdir(scratch)  # pnnx leaves files where it is called
        for name in options.network or NAMES:
            for title, source, arguments in sources(name, Path(scratch), options.tensorflow):
                report = peakmem.compare(name, source, **arguments)  # type: ignore[arg-type]
                found = {one.name: one for one in report.quantities}
                cells = [
                    f"{found[key].b:,}" + ("" if found[key].same else f" ({found[key].b - found[key].a:+,})")
                    for key in (
                        "parameters", "parameters, norms folded into weights and biases", "live peak",
                        "live peak, eager",
                    )
                ]  # fmt: skip
                print(f"| {name} | {title} | {' | '.join(cells)} | {'yes' if report.same else 'no'} |", flush=True)
                if not report.same:
                    good = False
                    remarks.append((name, title, report.differences))
        os.chdir(here)
    for name, title, differences in remarks:
        print(f"\n{name}, {title}:")
        for line in differences:
            print(f"- {line}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
