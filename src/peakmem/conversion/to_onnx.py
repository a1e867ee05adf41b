"""To ONNX: a network of the zoo with random weights, or a live PyTorch module by PyTorch's own exporter."""

from __future__ import annotations

import re

from peakmem.conversion.step import Job, Made, Option, Step
from peakmem.errors import ConversionError

STEPS = (
    Step(
        "zoo", "onnx", "peakmem.conversion.to_onnx:from_zoo", ("peakmem", "onnx", "numpy"), "onnx",
        options=(
            Option("seed", 0, (), "of the random weights"),
            Option("external_data", False, (), "weights in a file beside the model, which engines map or read apart"),
        ),
    ),
    Step(
        "torch", "onnx", "peakmem.conversion.to_onnx:from_torch", ("torch", "onnxscript", "onnx"), "conversion",
        options=(Option("opset", 0, (), "ONNX operator set; 0 takes PyTorch's choice"),),
    ),
)  # fmt: skip

_INLINE = 1 << 30
# bytes of weights; more of them stand beside the file
_NO_FUNCTION = re.compile(r"No ONNX function found for <OpOverload\(op='([\w.:]+)'")


def from_zoo(job: Job) -> Made:
    """Write job.target/model.onnx with the sizes of job.inputs."""
    from peakmem.binding import bound
    from peakmem.pipeline import load
    from peakmem.zoo.export import export_onnx

    graph = bound(load(job.source), shapes={port.name: port.shape for port in job.inputs})
    path = export_onnx(graph, job.target / f"{job.name}.onnx", seed=int(job.options["seed"]))
    if job.options["external_data"]:
        import onnx

        onnx.save_model(
            onnx.load(path), path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024
        )
    return Made(path.name, job.inputs, ("the weights are random",))


def from_torch(job: Job) -> Made:
    """Write job.target/model.onnx, and model.onnx.data beside it where the weights are large.

    Raises:
        ConversionError: PyTorch cannot export the module.
    """
    import torch

    from peakmem.conversion import torch_module

    module, examples, ports = torch_module.read(job)
    path = job.target / f"{job.name}.onnx"
    size = sum(tensor.nbytes for tensor in module.state_dict().values())
    try:
        torch.onnx.export(
            module, examples, path, dynamo=True, verbose=False, input_names=[port.name for port in ports] or None,
            external_data=size > _INLINE, opset_version=int(job.options["opset"]) or None,
        )  # fmt: skip
    except Exception as fault:  # the exporter wraps whatever the user's code and its own passes raise
        told = fault.__cause__ or fault
        text = " ".join(str(told).split())
        operators = tuple(dict.fromkeys(_NO_FUNCTION.findall(text)))
        raise ConversionError(
            f"PyTorch cannot export the module to ONNX: {type(told).__name__}: {text[:400]}", operators=operators
        ) from fault
    return Made(path.name, ports)
