"""A built-in network or an ONNX file to the Python source of a PyTorch module; needs neither torch nor onnx."""

from __future__ import annotations

from peakmem.conversion.step import Job, Made, Port, Step

STEPS = (
    Step("zoo", "torch", "peakmem.conversion.to_torch:convert", ("peakmem",), ""),
    Step("onnx", "torch", "peakmem.conversion.to_torch:convert", ("peakmem",), ""),
)


def convert(job: Job) -> Made:
    """Write the source of the graph that `job.source` holds, at the sizes of `job.inputs`.

    Raises:
        ConversionError: operators without a rule.
        PeakmemError: the model cannot be read, or a size is missing.
    """
    from peakmem.binding import bound
    from peakmem.conversion.torch_source import torch_source
    from peakmem.pipeline import load

    shapes = {port.name: port.shape for port in job.inputs}
    source = torch_source(bound(load(job.source), shapes=shapes))
    path = job.target / f"{job.name}.py"
    path.write_text(source.text, encoding="utf-8")
    ports = tuple(Port(name, dtype, shape) for name, dtype, shape in source.inputs)
    return Made(path.name, ports, ("the module's weights are random; sizes and dtypes are the model's",))
