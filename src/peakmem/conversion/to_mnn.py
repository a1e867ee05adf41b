"""ONNX to MNN, by the converter inside its Python package.

The command `mnnconvert` is not used: it installs packages by itself and reports statistics of the model over the
network (MNN 3.6.1, `MNN/tools/mnnconvert.py`). The function below it does neither. It gives True whatever happens, so
that its output is read: `These Op Not Support: ONNX::Strange`, `Converted Failed!`. Left alone it writes recurrent
layers as loops, and crashes on a network with two of them (the zoo's lstm_2layer); here they stay layers.
"""

from __future__ import annotations

import re

from peakmem.conversion import known_wrong
from peakmem.conversion.step import Job, Made, Option, Step, printed
from peakmem.errors import ConversionError

STEPS = (
    Step(
        "onnx", "mnn", "peakmem.conversion.to_mnn:convert", ("MNN",), "mnn",
        options=(
            Option("fp16", False, (), "store weights in half precision"),
            Option("optimize", 1, (0, 1, 2), "how much the converter rewrites the network"),
            Option("rnn", "layer", ("layer", "while"), "a recurrent layer as one operator, or as a loop of small ones"),
        ),
        stubs=("MNN.tools.utils.log",),
        # what reports statistics
        revision=2,
    ),
)  # fmt: skip

_UNSUPPORTED = re.compile(r"These Op Not Support: (.+)")
_SUBGRAPHS = "The model has subgraphs"


def convert(job: Job) -> Made:
    """Write job.target/model.mnn.

    Raises:
        ConversionError: operators that MNN does not have.
    """
    import _tools  # type: ignore[import-not-found,unused-ignore]
    import MNN  # type: ignore[import-not-found,unused-ignore]  # noqa: F401  # the converter needs what it loads

    known_wrong.refuse("mnn", job)
    target = job.target / f"{job.name}.mnn"
    arguments = ["mnnconvert", "-f", "ONNX", "--modelFile", job.source, "--MNNModel", str(target)]
    arguments += ["--bizCode", "peakmem", "--optimizeLevel", str(job.options["optimize"])]
    if job.options["fp16"]:
        arguments.append("--fp16")
    if job.options["rnn"] == "layer":
        arguments.append("--useOriginRNNImpl")
    _tools.mnnconvert(arguments)
    said = printed(job)
    operators = unconverted(said)
    if operators:
        raise ConversionError(f"MNN cannot convert {', '.join(operators)}", operators=operators)
    if not target.is_file() or "Converted Failed" in said:
        last = [line.strip() for line in said.splitlines() if line.strip()][-3:]
        raise ConversionError(f"MNN's converter wrote no file; it last said: {' | '.join(last)[:400]}")
    notes = ("the network has bodies of its own (loops), which MNN runs through its Module interface only",)
    return Made(target.name, job.inputs, notes if _SUBGRAPHS in said else ())


def unconverted(text: str) -> tuple[str, ...]:
    """The operators that the converter's output names, without the format they came from."""
    found = [name.rpartition("::")[2] for match in _UNSUPPORTED.findall(text) for name in re.split(r"[,\s]+", match)]
    return tuple(dict.fromkeys(name for name in found if name))
