"""OpenVINO on its CPU plugin, through its Python binding, which brings numpy.

`import openvino` loads `openvino.tools.ovc`, which reports the import over the network through `openvino_telemetry` (a
forked process resolves a name); without that package it takes a stub of its own
(openvino/tools/ovc/telemetry_utils.py, telemetry_stub.py of 2026.4.1). So the package is hidden before the import.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "openvino"
EXTRA = "openvino"
DISTRIBUTIONS = ("openvino", "numpy")
READS = ("onnx", "openvino", "tflite")
ENVIRONMENT: dict[str, str] = {
    "OPENBLAS_NUM_THREADS": "1",
    # numpy's; each thread takes address space at import
}
SETTINGS = (
    ("precision", "default", ("default", "f32", "f16", "bf16"),
     "of arithmetic and repacked weights; default is the engine's choice, bf16 where the processor has it"),
    ("execution_mode", "performance", ("performance", "accuracy"), "accuracy keeps types, unless precision is given"),
    ("mmap", True, (), "map weights that lie in a file of their own: .bin of an IR, external data of ONNX"),
    ("compile", "model", ("model", "file"), "read the model and compile it, or compile from the file in one call"),
    ("keep_model", False, (), "keep the model as it was read beside the compiled one"),
    ("performance_hint", "latency", ("latency", "throughput", "cumulative_throughput"), "streams the engine chooses"),
    ("streams", 0, (), "inferences side by side, each with blobs of its own; 0 leaves it to the hint"),
    ("requests", 1, (), "inferences asked for at once, each with inputs and outputs of its own"),
    ("cpu_pinning", True, (), "tie threads to cores"),
    ("dynamic_quantization", -1, (), "group size of activations in int8, 0 for none; -1 leaves it to the engine"),
    ("release_memory", False, (), "after the last run give blobs back and keep the compiled model; a phase of its own"),
    ("layers", False, (), "list what is executed, with its type; costs memory at the end"),
)  # fmt: skip

TYPES = {
    "f64": "float64", "f32": "float32", "f16": "float16", "bf16": "bfloat16", "i8": "int8", "i16": "int16",
    "i32": "int32", "i64": "int64", "u8": "uint8", "u16": "uint16", "u32": "uint32", "u64": "uint64",
    "boolean": "bool", "f8e4m3": "float8e4m3fn", "f8e5m2": "float8e5m2", "f8e8m0": "float8e8m0",
}  # fmt: skip
RAW = {"bfloat16": "uint16", "float8e4m3fn": "uint8", "float8e5m2": "uint8", "float8e8m0": "uint8"}
# types numpy does not have, and what carries their bits

TOLD = (
    "INFERENCE_PRECISION_HINT", "EXECUTION_MODE_HINT", "PERFORMANCE_HINT", "NUM_STREAMS", "INFERENCE_NUM_THREADS",
    "OPTIMAL_NUMBER_OF_INFER_REQUESTS", "ENABLE_CPU_PINNING", "DYNAMIC_QUANTIZATION_GROUP_SIZE", "EXECUTION_DEVICES",
    "RUNTIME_REQUIREMENTS",
)  # fmt: skip
# properties of the compiled model that say what the engine chose; the last names the instruction set


class Runner:
    """A compiled model of an ONNX file, an IR (.xml with .bin) or a TFLite file."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.model: Any = None
        self.compiled: Any = None
        self.requests: list[Any] = []
        self.tensors: list[Any] = []

    def start(self) -> None:
        """Import the engine without its telemetry; plugins are loaded when a model is compiled."""
        import sys

        hidden: dict[str, Any] = {"openvino_telemetry": None}
        sys.modules.update(hidden)
        # an import of it now fails as if it were not installed
        import numpy
        import openvino

        self.numpy, self.openvino = numpy, openvino

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        """Read (phase `read`) and compile; with compile=file both in one call and one phase."""
        chosen, tools, engine = self.settings, self.tools, self.openvino
        self._check(model)
        core = engine.Core()
        core.set_property({"ENABLE_MMAP": chosen["mmap"]})
        properties = self._properties()
        try:
            if chosen["compile"] == "file":
                self.compiled = core.compile_model(model, "CPU", properties)
            else:
                read = core.read_model(model)
                tools.mark("read")
                self.compiled = core.compile_model(read, "CPU", properties)
                if chosen["keep_model"]:
                    self.model = read
                del read
        except RuntimeError as fault:
            if "bad_alloc" in str(fault) or "llocate" in str(fault):
                raise
            raise tools.Unsupported(refusal(fault, model)) from None
        if model.endswith((".xml", ".onnx")):
            tools.fact("mmap", mapped(model) or "nothing of the model is mapped")
        ports = [(self._name(port, at), self._dtype(port), shape(port)) for at, port in enumerate(self.compiled.inputs)]
        self.requests = [self.compiled.create_infer_request() for _ in range(max(1, chosen["requests"]))]
        for name in TOLD:
            try:
                tools.fact(name, said(self.compiled.get_property(name)))
            except (RuntimeError, TypeError):
                continue
                # not known to this version
        return ports

    def _check(self, model: str) -> None:
        chosen, tools = self.settings, self.tools
        if chosen["keep_model"] and chosen["compile"] == "file":
            raise tools.Unsupported("keep_model keeps what was read and compile=file reads nothing apart")
        if chosen["release_memory"] and not hasattr(self.openvino.CompiledModel, "release_memory"):
            raise tools.Unsupported("this version of OpenVINO has no release_memory")
        if chosen["requests"] < 1:
            raise tools.Unsupported("requests has to be 1 or more")
        if not model.endswith((".xml", ".onnx")):
            tools.fact("mmap", "no effect on this format")

    def _properties(self) -> dict[str, Any]:
        chosen, tools, engine = self.settings, self.tools, self.openvino
        properties: dict[str, Any] = {
            "INFERENCE_NUM_THREADS": chosen["threads"],
            "ENABLE_CPU_PINNING": chosen["cpu_pinning"],
            "PERFORMANCE_HINT": chosen["performance_hint"].upper(),
            "EXECUTION_MODE_HINT": chosen["execution_mode"].upper(),
        }
        if chosen["streams"]:
            properties["NUM_STREAMS"] = chosen["streams"]
        if chosen["dynamic_quantization"] >= 0:
            properties["DYNAMIC_QUANTIZATION_GROUP_SIZE"] = chosen["dynamic_quantization"]
        if chosen["precision"] != "default":
            properties["INFERENCE_PRECISION_HINT"] = getattr(engine.Type, chosen["precision"])
        if chosen["precision"] == "f16":
            able = engine.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            if "FP16" not in able:
                raise tools.Unsupported(f"OpenVINO computes no f16 on this processor ({', '.join(able)})")
        return properties

    def _name(self, port: Any, at: int) -> str:
        names = port.get_names()
        return str(port.get_any_name()) if names else f"input {at}"

    def _dtype(self, port: Any) -> str:
        kind = port.element_type.get_type_name()
        if kind not in TYPES:
            raise self.tools.Unsupported(f"input {port.get_any_name()!r} is of type {kind}, which is not fed")
        return TYPES[kind]

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        """Tensors over the given bytes, without a copy; all requests read the same."""
        numpy, engine = self.numpy, self.openvino
        for (_, dims, dtype, data), port in zip(values, self.compiled.inputs, strict=True):
            array = numpy.frombuffer(data, RAW.get(dtype, dtype))
            self.tensors.append(
                engine.Tensor(array, engine.Shape(dims), port.element_type)
                if dtype in RAW
                else engine.Tensor(array.reshape(dims), shared_memory=True)
            )
        for request in self.requests:
            for at, tensor in enumerate(self.tensors):
                request.set_input_tensor(at, tensor)

    def run(self) -> None:
        """One inference of every request; the results stay in its output tensors, where they are overwritten."""
        if len(self.requests) == 1:
            # without the binding's infer(), which copies results to numpy
            self.requests[0].start_async()
            self.requests[0].wait()
            return
        for request in self.requests:
            request.start_async()
        for request in self.requests:
            request.wait()

    def release(self) -> None:
        """With release_memory first that alone, as a phase; then requests, model and compiled model."""
        tools, chosen = self.tools, self.settings
        if chosen["release_memory"]:
            self.compiled.release_memory()
            tools.mark("release_memory")
        if chosen["layers"]:
            self._layers()
        self.requests.clear()
        self.tensors.clear()
        self.model = self.compiled = None

    def _layers(self) -> None:
        import json

        rows = []
        for node in self.compiled.get_runtime_model().get_ordered_ops():
            info = {key: str(value.value) for key, value in dict(node.get_rt_info().items()).items()}
            rows.append(
                {
                    "name": node.get_friendly_name(),
                    "type": info.get("layerType", ""),
                    "kernel": info.get("primitiveType", ""),
                    "precision": info.get("runtimePrecision", ""),
                    "output_precisions": info.get("outputPrecisions", ""),
                    "output_layouts": info.get("outputLayouts", ""),
                    "order": info.get("execOrder", ""),
                    "from": info.get("originalLayersNames", ""),
                }
            )
        constants = sum(row["type"] == "Const" for row in rows)
        rows = [row for row in rows if row["type"] != "Const"]
        self.tools.fact("layers executed", len(rows))
        self.tools.fact("constants", constants)
        for precision in sorted({row["precision"] for row in rows}):
            self.tools.fact(
                f"layers in {precision or 'no precision'}", sum(row["precision"] == precision for row in rows)
            )
        text = json.dumps(rows, separators=(",", ":"))
        self.tools.fact("layers", text if len(text) <= LONGEST_FACT else f"left out, {len(rows)} of them")


LONGEST_FACT = 900_000
# characters; the wire to the measuring process takes lines of 2^20 bytes


def mapped(model: str) -> str:
    """Which files of the model's folder are mapped now, by their names."""
    import os

    folder = os.path.dirname(os.path.realpath(model)) + os.sep
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as file:
        paths = {line.rstrip("\n").partition("/")[2] for line in file}
    names = {("/" + path)[len(folder) :] for path in paths if ("/" + path).startswith(folder)}
    return " ".join(sorted(name for name in names if not name.endswith(".so") and ".so." not in name))


def shape(port: Any) -> tuple[int, ...] | None:
    """Of an input: -1 for a free dimension, None without a rank."""
    partial = port.get_partial_shape()
    if partial.rank.is_dynamic:
        return None
    return tuple(dim.get_length() if dim.is_static else -1 for dim in partial)


def said(value: Any) -> str:
    """A property as text."""
    if isinstance(value, list | tuple | set):
        return " ".join(said(one) for one in value)
    name = getattr(value, "get_type_name", None)
    return str(name()) if name is not None else str(getattr(value, "name", value))


def refusal(fault: Exception, model: str) -> str:
    """What the engine says against a model as one sentence, operators in front where it names them."""
    import os
    import re

    text = str(fault)
    found = re.search(r"does not support the following ONNX operations:\s*([^\n]+)", text)
    found = found or re.search(r"No conversion rule found for operations?:\s*([^\n]+)", text)
    short = " ".join(re.sub(r"(Exception from|Check '.*?' failed at) \S+:\d+:?", "", text).split())
    if found:
        return f"OpenVINO does not know operator {found[1].strip()}: {short}"
    return f"OpenVINO refuses {os.path.basename(model)}: {short}"
