"""PyTorch and Keras to TFLite with litert-torch, and to int8 with ai-edge-quantizer.

A Keras model goes the same way: with KERAS_BACKEND=torch it is a torch module. Calibration data is random, so an int8
file has the sizes of a real one and not its accuracy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from peakmem.conversion.step import Job, Made, Option, Port, Step
from peakmem.errors import ConversionError, MissingLibrary, UsageError

SAMPLES = 4
# random inputs that a full int8 conversion is calibrated with
LARGEST_FLATBUFFER = 2**31 - 1
# bytes; what is larger keeps its weights behind the flatbuffer

_OPTIONS = (
    Option("layout", "nchw", ("nchw", "nhwc"), "of inputs and outputs with four dimensions: PyTorch's, which the file "
           "transposes inside, or TFLite's"),
    Option("quantise", "none", ("none", "dynamic_int8", "int8"), "weights to int8 with activations in float32, or both "
           "to int8, calibrated with random inputs"),
)  # fmt: skip
_ENVIRONMENT = {"KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
STEPS = (
    Step("torch", "tflite", "peakmem.conversion.to_tflite:convert", ("litert-torch", "ai-edge-quantizer", "torch"),
         "litert-torch", _OPTIONS, _ENVIRONMENT, cost=2),
    Step("keras", "tflite", "peakmem.conversion.to_tflite:convert_keras",
         ("litert-torch", "ai-edge-quantizer", "keras", "torch"), "litert-torch", _OPTIONS[1:], _ENVIRONMENT, cost=2),
)  # fmt: skip


def convert(job: Job) -> Made:
    """Write the file of `job.source`, a PyTorch module.

    Raises:
        ConversionError: litert-torch or the quantiser refuses it.
    """
    from peakmem.conversion import torch_module

    module, examples, ports = torch_module.read(job)
    notes: tuple[str, ...] = ()
    if job.options.get("layout") == "nhwc":
        module, examples, ports, notes = _channels_last(module, examples, ports)
    return _written(job, module, examples, ports, notes)


def convert_keras(job: Job) -> Made:
    """Write the file of `job.source`, a .keras file or a factory of a Keras model.

    Raises:
        ConversionError: Keras's own operators for torch cannot be exported, or litert-torch refuses them.
    """
    import torch

    from peakmem.conversion import torch_module

    torch.manual_seed(torch_module.SEED)
    torch.set_grad_enabled(False)
    model = _keras_model(job)
    if not isinstance(model, torch.nn.Module):
        raise UsageError("Keras runs on another backend", where=job.source, hint="KERAS_BACKEND=torch")
    ports = job.inputs or _keras_ports(model)
    examples = tuple(torch_module.example(port) for port in ports)
    return _written(job, _Called(model, len(ports)).module().eval(), examples, ports, ())


class _Called:
    """A Keras model as a module that takes its inputs one by one."""

    def __init__(self, model: Any, count: int) -> None:
        self.model, self.count = model, count

    def module(self) -> Any:
        import torch

        model, count = self.model, self.count

        class Network(torch.nn.Module):  # type: ignore[misc, unused-ignore]
            def __init__(self) -> None:
                super().__init__()
                self.model = model

            def forward(self, *inputs: Any) -> Any:
                return self.model(inputs[0] if count == 1 else list(inputs), training=False)

        return Network()


def _keras_model(job: Job) -> Any:
    import keras

    if ":" not in job.source or Path(job.source).exists():
        return keras.saving.load_model(job.source, compile=False, safe_mode=True)
    from importlib import import_module

    module, _, attribute = job.source.partition(":")
    made: Any = import_module(module)
    for part in attribute.split("."):
        made = getattr(made, part)
    return made if isinstance(made, keras.Model) else made()


def _keras_ports(model: Any) -> tuple[Port, ...]:
    """The inputs of a built model, one sample each."""
    if not getattr(model, "inputs", None):
        raise UsageError("the model was not built, so its inputs are not known", hint="--input x=1x224x224x3")
    return tuple(
        Port(tensor.name, str(tensor.dtype), tuple(1 if dim is None else int(dim) for dim in tensor.shape))
        for tensor in model.inputs
    )


def _channels_last(
    module: Any, examples: tuple[Any, ...], ports: tuple[Port, ...]
) -> tuple[Any, tuple[Any, ...], tuple[Port, ...], tuple[str, ...]]:
    """Module, examples and ports with the channels of four-dimensional inputs and outputs last."""
    import litert_torch
    import torch

    images = [at for at, port in enumerate(ports) if len(port.shape) == 4]
    results = module(*examples)
    results = results if isinstance(results, (tuple, list)) else (results,)
    made = [at for at, tensor in enumerate(results) if isinstance(tensor, torch.Tensor) and tensor.ndim == 4]
    if not images and not made:
        return module, examples, ports, ("nothing here has four dimensions, so layout=nhwc changes nothing",)
    module = litert_torch.to_channel_last_io(module, args=images or None, outputs=made or None)
    examples = tuple(
        tensor.permute(0, 2, 3, 1).contiguous() if at in images else tensor for at, tensor in enumerate(examples)
    )
    ports = tuple(
        Port(port.name, port.dtype, tuple(tensor.shape)) for port, tensor in zip(ports, examples, strict=True)
    )
    return module, examples, ports, ()


def _written(job: Job, module: Any, examples: tuple[Any, ...], ports: tuple[Port, ...], notes: tuple[str, ...]) -> Made:
    import litert_torch

    kind = str(job.options.get("quantise", "none"))
    path = job.target / f"{job.name}.tflite"
    plain = path if kind == "none" else Path.cwd() / "float.tflite"
    try:
        litert_torch.convert(module, examples).export(str(plain))
    except Exception as fault:  # whatever its passes raise
        said = " ".join(str(fault).split())[:400]
        raise ConversionError(f"litert-torch refuses it: {type(fault).__name__}: {said}") from fault
    if kind != "none":
        _quantised(plain, path, kind)
    told = _ports(path, ports)
    return Made(path.name, told, notes)


def _ports(path: Path, ports: tuple[Port, ...]) -> tuple[Port, ...]:
    """The inputs as the file names them; shapes and dtypes are its own."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    reader = Interpreter(str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    rows = reader.get_input_details()
    if len(rows) != len(ports):
        return ()
    return tuple(Port(row["name"], row["dtype"].__name__, tuple(int(dim) for dim in row["shape"])) for row in rows)


def _quantised(plain: Path, path: Path, kind: str) -> None:
    """`plain` quantised to `path`."""
    try:
        from ai_edge_quantizer import quantizer, recipe
    except ImportError:
        raise MissingLibrary("ai-edge-quantizer", extra="litert-torch", purpose="int8") from None
    try:
        if kind == "dynamic_int8":
            tool = quantizer.Quantizer(str(plain), recipe.dynamic_wi8_afp32())
            made = tool.quantize()
        else:
            tool = quantizer.Quantizer(str(plain), recipe.static_wi8_ai8())
            made = tool.quantize(tool.calibrate(_samples(plain), num_threads=1))
        made.export_model(path, overwrite=True)
        _inlined(path)
    except Exception as fault:  # whatever its algorithms raise
        said = " ".join(str(fault).split())[:400]
        raise ConversionError(f"ai-edge-quantizer refuses it: {type(fault).__name__}: {said}") from fault


def _inlined(path: Path) -> None:
    """Rewrite a file whose weights lie behind the flatbuffer with the weights inside, at multiples of 16 bytes.

    ai-edge-quantizer 0.10 appends them (`Buffer.offset`, for files over 256 KiB). TFLite Micro (0.dev20261023) does not
    know that field: it takes such weights for activations, gives them room in its arena and runs on zeros.
    """
    import flatbuffers
    import numpy
    from ai_edge_litert import schema_py_generated as schema

    if path.stat().st_size > LARGEST_FLATBUFFER:
        return
    whole = path.read_bytes()
    model = schema.ModelT.InitFromPackedBuf(whole)
    for buffer in model.buffers:
        if buffer.offset > 1:
            buffer.data = numpy.frombuffer(whole, numpy.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0

    class Builder(flatbuffers.Builder):  # type: ignore[misc, unused-ignore]
        def CreateNumpyVector(self, x: Any) -> Any:  # noqa: N802
            """As flatbuffers does it, at the alignment that the schema demands of `Buffer.data`."""
            if x.dtype != numpy.uint8:
                return super().CreateNumpyVector(x)
            self.StartVector(1, x.size, 16)
            end = int(self.head)
            self.head: int = end - x.size
            self.Bytes[self.head : end] = x.tobytes()
            self.vectorNumElems = x.size
            return self.EndVector()

    builder = Builder(path.stat().st_size)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(builder.Output())


def _samples(plain: Path) -> dict[str, list[dict[str, Any]]]:
    """Random inputs for every signature, by name."""
    import numpy
    from ai_edge_litert.interpreter import Interpreter

    generator = numpy.random.default_rng(0)
    reader, samples = Interpreter(str(plain)), {}
    for signature in reader.get_signature_list():
        rows = reader.get_signature_runner(signature).get_input_details()

        def made(row: dict[str, Any]) -> Any:
            shape, dtype = row["shape"], numpy.dtype(row["dtype"])
            if dtype.kind == "f":
                return generator.standard_normal(shape).astype(dtype)
            return numpy.zeros(shape, dtype)

        samples[signature] = [{name: made(row) for name, row in rows.items()} for _ in range(SAMPLES)]
    return samples
