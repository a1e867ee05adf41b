"""ONNX to OpenVINO's IR, by its own model conversion; weights keep their precision unless asked otherwise."""

from __future__ import annotations

import errno
import re
from typing import Any

from peakmem.conversion import known_wrong
from peakmem.conversion.step import Job, Made, Option, Port, Step
from peakmem.errors import ConversionError

STEPS = (
    Step(
        "onnx", "openvino", "peakmem.conversion.to_openvino:convert", ("openvino",), "openvino",
        options=(Option("fp16", False, (), "store weights in half precision"),),
        stubs=("openvino_telemetry",),
        # importing openvino with it forks and resolves www.google-analytics.com
        revision=2,
    ),
)  # fmt: skip

_NO_RULE = re.compile(r"No conversion rule found for operations: (.+)")
_FAILED = re.compile(r"Conversion (?:is )?failed for:?\s*(.+)", re.IGNORECASE)
_DTYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "float64": "f64", "bool": "boolean"}


def convert(job: Job) -> Made:
    """Write job.target/model.xml and .bin, with the sizes of job.inputs.

    Raises:
        ConversionError: operators that OpenVINO has no rule for.
    """
    import openvino  # type: ignore[import-not-found,unused-ignore]

    known_wrong.refuse("openvino", job)
    try:
        model = openvino.convert_model(job.source)
        _reshape(model, job)
    except Exception as fault:  # its exceptions are plain, and so is what the ONNX reader throws
        text = str(fault)
        operators = unconverted(text)
        if operators:
            shown = ", ".join(operators)
            raise ConversionError(f"OpenVINO cannot convert {shown}", operators=operators) from fault
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Check '")]
        raise ConversionError(f"OpenVINO cannot read the ONNX file: {' '.join(lines)[:400]}") from fault
    target = job.target / f"{job.name}.xml"
    try:
        openvino.save_model(model, target, compress_to_fp16=bool(job.options["fp16"]))
    except RuntimeError as fault:
        if "iostream" not in str(fault):
            raise
        # "basic_ios::clear: iostream error" on a full disk; the part that was written is gone again
        raise OSError(errno.ENOSPC, "No space left on device") from fault
    return Made(target.name, _inputs(model, job))


def unconverted(text: str) -> tuple[str, ...]:
    """The operators that an OpConversionFailure names, without their operator sets."""
    found = [name.strip() for match in (*_NO_RULE.findall(text), *_FAILED.findall(text)) for name in match.split(",")]
    return tuple(dict.fromkeys(re.sub(r"-\d+$", "", name) for name in found if name))


def _reshape(model: Any, job: Job) -> None:
    """Fix the sizes of inputs that the file leaves open."""
    wanted = {port.name: port.shape for port in job.inputs}
    sizes = {}
    for given in model.inputs:
        name = next((name for name in given.names if name in wanted), None)
        if name is not None and given.partial_shape.is_dynamic:
            sizes[given] = list(wanted[name])
    if sizes:
        model.reshape(sizes)


def _inputs(model: Any, job: Job) -> tuple[Port, ...]:
    wanted = {port.name: port for port in job.inputs}
    ports = []
    for given in model.inputs:
        port = next((wanted[name] for name in given.names if name in wanted), None)
        if port is None:
            return ()
        ports.append(port)
    return tuple(ports)
