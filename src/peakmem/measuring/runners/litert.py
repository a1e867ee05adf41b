"""LiteRT (TensorFlow Lite), through its interpreter or its newer compiled model; both need numpy."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "litert"
EXTRA = "litert"
DISTRIBUTIONS = ("ai-edge-litert",)
READS = ("tflite",)
ENVIRONMENT: dict[str, str] = {}
SETTINGS = (
    ("api", "interpreter", ("interpreter", "compiled_model"), "the newer compiled model keeps buffers of its own for inputs and outputs"),  # noqa: E501
    ("kernels", "xnnpack", ("xnnpack", "builtin", "reference"), "XNNPACK packs a second copy of the weights; the built-in kernels run from the mapped file"),  # noqa: E501
    ("preserve_all_tensors", False, (), "interpreter: no tensor's memory is used again, so that all can be looked at"),
    ("model_as_bytes", False, (), "the file is read into memory and not mapped"),
    ("disable_delegate_clustering", False, (), "interpreter: operators for XNNPACK are not moved together"),
    ("disable_delegate_node_fusion", False, (), "interpreter: every operator is a part of its own"),
    ("latest_delegate_features", False, (), "interpreter: XNNPACK takes operators that are off by default"),
    ("compress_zero_points", False, (), "interpreter: equal zero points of quantised weights are kept once"),
    ("weight_cache", False, (), "compiled model: packed weights go to a file that is mapped, here made anew by each process"),  # noqa: E501
    ("xnnpack_flags", -1, (), "compiled model: TfLiteXNNPackDelegateOptions.flags; -1 leaves them alone"),
    ("ynnpack", False, (), "compiled model: YNNPACK takes operators before XNNPACK"),
    ("signature", "", (), "which of the model's signatures is run; empty for the first"),
)  # fmt: skip

_OF_INTERPRETER = (
    "preserve_all_tensors", "disable_delegate_clustering", "disable_delegate_node_fusion", "latest_delegate_features",
    "compress_zero_points",
)  # fmt: skip
_OF_COMPILED_MODEL = ("weight_cache", "xnnpack_flags", "ynnpack")
_TYPES = (
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128",
)  # fmt: skip
_LARGEST = 5
# tensors that are named
_LONGEST = 80
# characters of their names: converters join those of all operators that became one


class Runner:
    """Loads a .tflite; the work is done by one of the classes below."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.inside: Any = None

    def start(self) -> None:
        compiled = self.settings["api"] == "compiled_model"
        defaults = {row[0]: row[1] for row in SETTINGS}
        for name in _OF_INTERPRETER if compiled else _OF_COMPILED_MODEL:
            if self.settings[name] != defaults[name]:
                other = "interpreter" if compiled else "compiled_model"
                raise self.tools.Unsupported(f"{name} is a setting of api={other}")
        self.inside = (_CompiledModel if compiled else _Interpreter)(self.settings, self.tools)

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        ports: list[tuple[str, str, tuple[int, ...] | None]] = self.inside.load(model)
        return ports

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        self.inside.feed(values)

    def run(self) -> None:
        self.inside.run()

    def release(self) -> None:
        self.inside.tell()
        self.inside = None


class _Interpreter:
    """ai_edge_litert.interpreter: an arena that allocate_tensors plans, and delegates that take parts of the graph.

    A signature is run by its SignatureRunner, which plans again at every call and copies the outputs.
    """

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        from ai_edge_litert import interpreter

        self.settings = settings
        self.tools = tools
        self.library = interpreter
        self.runner: Any = None
        self.values: dict[str, Any] = {}
        self.resized = False
        # shapes inside a delegate's part stay those of the file then

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        settings, kinds = self.settings, self.library.OpResolverType
        source: dict[str, Any] = {"model_path": model}
        if settings["model_as_bytes"]:
            with open(model, "rb") as file:
                source = {"model_content": file.read()}
        try:
            self.interpreter = self.library.Interpreter(
                **source,
                num_threads=settings["threads"],
                experimental_op_resolver_type={
                    "xnnpack": kinds.BUILTIN,
                    "builtin": kinds.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
                    "reference": kinds.BUILTIN_REF,
                }[settings["kernels"]],
                experimental_preserve_all_tensors=settings["preserve_all_tensors"],
                experimental_disable_delegate_clustering=settings["disable_delegate_clustering"],
                experimental_default_delegate_latest_features=settings["latest_delegate_features"],
                experimental_compress_quantization_zero_points=settings["compress_zero_points"],
                experimental_disable_delegate_node_fusion=settings["disable_delegate_node_fusion"],
            )
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"LiteRT cannot read the model: {_sentence(fault)}") from None
        del source
        names = [self.wrapper.NodeName(node) for node in range(self.wrapper.NumNodes())]
        self.nodes = names.index("DELEGATE") if "DELEGATE" in names else len(names)
        # the file's own; parts that a delegate takes follow, here or when tensors are allocated
        self.subgraph = 0
        self.tools.mark("read")
        details = self._details()
        self.names = _names([name for name, _ in details])
        self.indexes = dict(zip(self.names, (detail["index"] for _, detail in details), strict=True))
        self.shapes = dict(zip(self.names, (_ints(detail["shape"]) for _, detail in details), strict=True))
        types = [_type(detail["dtype"]) for _, detail in details]
        for name, dtype in zip(self.names, types, strict=True):
            if dtype not in _TYPES:
                raise self.tools.Unsupported(f"input {name} is of type {dtype}, which cannot be fed as an array")
        told = _said(self.tools, self.names)
        for name, shape in told.items():
            self._resize(name, shape)
        self._allocate()
        free = [_ints(detail["shape_signature"]) for _, detail in details]
        return [
            (name, dtype, self.shapes[name] if name in told or len(signature) != len(self.shapes[name]) else signature)
            for name, dtype, signature in zip(self.names, types, free, strict=True)
        ]

    @property
    def wrapper(self) -> Any:
        """What is behind the interpreter; a reference that is kept makes it refuse to run."""
        return self.interpreter._interpreter

    def _details(self) -> list[tuple[str, Any]]:
        """Inputs of the signature, or of the first subgraph."""
        chosen = self.settings["signature"]
        if not chosen:
            return [(detail["name"], detail) for detail in self.interpreter.get_input_details()]
        known = self.interpreter.get_signature_list()
        if chosen not in known:
            raise self.tools.Unsupported(f"no signature {chosen!r}; it has {', '.join(known) or 'none'}")
        self.runner = self.interpreter.get_signature_runner(chosen)
        self.subgraph = self.runner._subgraph_index
        return list(self.runner.get_input_details().items())

    def _resize(self, name: str, shape: tuple[int, ...]) -> bool:
        """Give input `name` a shape, free dimension or not; whether that is another than it has."""
        import numpy

        if shape == self.shapes[name]:
            return False
        try:
            self.wrapper.ResizeInputTensor(self.indexes[name], numpy.array(shape, numpy.int32), False, self.subgraph)
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"input {name} cannot be {list(shape)}: {_sentence(fault)}") from None
        self.shapes[name] = shape
        self.resized = True
        return True

    def _allocate(self) -> None:
        try:
            self.wrapper.AllocateTensors(self.subgraph)
        except (ValueError, RuntimeError) as fault:
            text = _sentence(fault)
            custom = [name for name in self._operators() if not name.replace("_", "").isupper() or name in text]
            if "unresolved custom op" in text or "Select TensorFlow op" in text or "Regular TensorFlow op" in text:
                kind = "custom operators" if "custom" in text else "operators of TensorFlow (Flex)"
                named = ", ".join(dict.fromkeys(custom))
                raise self.tools.Unsupported(f"{kind} that are not in this LiteRT: {named}") from None
            raise self.tools.Unsupported(f"LiteRT cannot prepare the model: {text}") from None

    def _operators(self) -> list[str]:
        return [self.wrapper.NodeName(node) for node in range(self.nodes)]

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        changed = [self._resize(name, shape) for name, shape, _, _ in values]
        if any(changed):
            self._allocate()
        for name, shape, dtype, data in values:
            array = _array(data, dtype, shape)
            if self.runner is not None:
                self.values[name] = array
            else:
                # into the arena, where inputs are never overwritten: once is enough
                self.wrapper.SetTensor(self.indexes[name], array, 0)

    def run(self) -> None:
        self.interpreter.reset_all_variables()
        # state of recurrent networks: every run begins alike
        try:
            if self.runner is not None:
                self.runner(**self.values)
            else:
                self.interpreter.invoke()
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"LiteRT cannot run the model: {_sentence(fault)}") from None

    def tell(self) -> None:
        """What it says of itself, told before it goes, so that the Python objects for it are in no other phase."""
        fact, operators = self.tools.fact, self._operators()
        fact("operators", f"{len(operators)}")
        fact("signatures", ", ".join(self.interpreter.get_signature_list()) or "none")
        if self.subgraph == 0:
            parts, taken = self._delegated()
            left = [name for node, name in enumerate(operators) if node not in taken]
            fact("delegated", f"{len(taken)} of {len(operators)} operators, in {parts} parts")
            if taken and left:
                fact("not delegated", _counted(left))
            if not self.resized:
                self._tell_largest()
        self.runner = self.interpreter = None
        self.values = {}

    def _tell_largest(self) -> None:
        """The largest results of operators, whether a delegate keeps them or not."""
        wrapper = self.wrapper
        sizes = []
        for index in {int(index) for node in range(self.nodes) for index in wrapper.NodeOutputs(node)}:
            if index >= 0 and _type(wrapper.TensorType(index, 0)) in _TYPES:
                shape = _ints(wrapper.TensorSize(index, 0))
                nbytes = _nbytes(_type(wrapper.TensorType(index, 0)), shape)
                sizes.append((nbytes, wrapper.TensorName(index, 0)[:_LONGEST] or f"tensor {index}", shape))
        for place, (nbytes, name, shape) in enumerate(sorted(sizes, reverse=True)[:_LARGEST], 1):
            self.tools.fact(f"largest tensor {place}", f"{nbytes} B {'x'.join(map(str, shape))} {name}")

    def _delegated(self) -> tuple[int, set[int]]:
        """How many parts delegates took, and the operators in them: those between a part's inputs and its outputs."""
        wrapper = self.wrapper
        producer = {int(out): node for node in range(self.nodes) for out in wrapper.NodeOutputs(node)}
        taken: set[int] = set()
        parts = range(self.nodes, wrapper.NumNodes())
        for part in parts:
            border = {int(index) for index in wrapper.NodeInputs(part)}
            waiting = [int(index) for index in wrapper.NodeOutputs(part)]
            while waiting:
                node = producer.get(waiting.pop())
                if node is not None and node not in taken:
                    taken.add(node)
                    waiting += [int(index) for index in wrapper.NodeInputs(node) if int(index) not in border]
        return len(parts), taken


class _CompiledModel:
    """ai_edge_litert.compiled_model: tensor buffers outside the model, CPU kernels chosen by options."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        try:
            from ai_edge_litert import compiled_model
        except ImportError as fault:
            raise tools.Unsupported(f"this LiteRT has no compiled model: {fault}") from None
        import os

        self.settings = settings
        self.tools = tools
        self.library = compiled_model
        folder = os.path.dirname(os.path.abspath(str(compiled_model.__file__)))
        # as the library's own default; it registers what accelerators lie there, none of which is asked for
        self.environment = compiled_model.Environment.create(
            options=compiled_model.EnvironmentOptions(runtime_path=folder)
        )

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        import os

        library, settings = self.library, self.settings
        mode = {"xnnpack": "DELEGATE", "builtin": "BUILTIN", "reference": "REFERENCE"}[settings["kernels"]]
        cache = os.path.join(self.tools.scratch, "xnnpack.cache") if settings["weight_cache"] else ""
        options = library.Options(
            hardware_accelerators=library.HardwareAccelerator.CPU,
            cpu_options=library.CpuOptions(
                num_threads=settings["threads"],
                kernel_mode=library.CpuKernelMode[mode],
                enable_ynnpack=settings["ynnpack"],
                xnnpack_flags=None if settings["xnnpack_flags"] < 0 else settings["xnnpack_flags"],
                xnnpack_weight_cache_path=cache,
            ),
        )
        make: Any = library.CompiledModel.from_file
        self.source: Any = model
        # bytes are not copied: they must live as long as the model
        if settings["model_as_bytes"]:
            with open(model, "rb") as file:
                make, self.source = library.CompiledModel.from_buffer, file.read()
        try:
            self.model = make(self.source, options=options, environment=self.environment)
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"LiteRT cannot compile the model: {_sentence(fault)}") from None
        if cache:
            self.tools.fact("weight cache", f"{os.path.getsize(cache) if os.path.exists(cache) else 0} B")
        known = list(self.model.get_signature_list())
        chosen = settings["signature"]
        if chosen and chosen not in known:
            raise self.tools.Unsupported(f"no signature {chosen!r}; it has {', '.join(known) or 'none'}")
        self.signature = chosen or known[0]
        self.index = self.model.get_signature_index(self.signature)
        self.names = self.model.get_signature_list()[self.signature]["inputs"]
        self._shapes()
        for name, shape in _said(self.tools, self.names).items():
            self._resize(name, shape)
        details = self._shapes()
        for name in self.names:
            dtype = details[name]["dtype"]
            if dtype not in _written(self.library):
                raise self.tools.Unsupported(f"input {name} is {dtype}: no tensor buffer holds it, api=interpreter may")
        return [(name, details[name]["dtype"], self.shapes[name]) for name in self.names]

    def _shapes(self) -> Any:
        details = self.model.get_input_tensor_details(self.signature)
        self.shapes = {name: tuple(int(dim) for dim in details[name]["shape"]) for name in self.names}
        return details

    def _resize(self, name: str, shape: tuple[int, ...]) -> None:
        if shape == self.shapes[name]:
            return
        try:
            self.model.resize_input_tensor(self.names.index(name), list(shape), self.index, strict=False)
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"input {name} cannot be {list(shape)}: {_sentence(fault)}") from None

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        for name, shape, _, _ in values:
            self._resize(name, shape)
        self._shapes()
        try:
            self.inputs = self.model.create_input_buffers(self.index)
            self.outputs = self.model.create_output_buffers(self.index)
            for name, shape, dtype, data in values:
                self.inputs[self.names.index(name)].write(_array(data, dtype, shape))
        except (ValueError, RuntimeError) as fault:
            raise self.tools.Unsupported(f"LiteRT cannot make buffers for the model: {_sentence(fault)}") from None

    def run(self) -> None:
        try:
            self.model.run_by_index(self.index, self.inputs, self.outputs)
        except (ValueError, RuntimeError) as fault:
            complaints = [line for line in self.tools.output().splitlines() if "unresolved" in line or "Select" in line]
            reason = complaints[-1] if complaints else _sentence(fault)
            raise self.tools.Unsupported(f"LiteRT cannot run the model: {reason}") from None

    def tell(self) -> None:
        """What it says of itself; then it goes."""
        self.tools.fact("signatures", ", ".join(self.model.get_signature_list()))
        self.tools.fact("fully accelerated", "yes" if self.model.is_fully_accelerated() else "no")
        for kind, requirements, buffers in (
            ("input", self.model.get_input_buffer_requirements, self.inputs),
            ("output", self.model.get_output_buffer_requirements, self.outputs),
        ):
            for place in range(len(buffers)):
                self.tools.fact(f"{kind} buffer {place}", f"{requirements(place, self.index)['buffer_size']} B")
        self.inputs = self.outputs = self.model = self.environment = self.source = None


def _written(library: Any) -> set[str]:
    """Types that a tensor buffer can be written from, by name."""
    return set(getattr(library.TensorBuffer, "_DTYPE_STRINGS", {None: "float32"}).values())


def _type(dtype: Any) -> str:
    """The name of a numpy type; strings and resources have one that is in no list."""
    import numpy

    return str(numpy.dtype(dtype).name)


def _ints(dims: Any) -> tuple[int, ...]:
    return tuple(int(dim) for dim in dims)


def _nbytes(dtype: str, shape: tuple[int, ...]) -> int:
    import numpy

    count = int(numpy.dtype(dtype).itemsize)
    for dim in shape:
        count *= max(dim, 0)
    return count


def _array(data: bytearray, dtype: str, shape: tuple[int, ...]) -> Any:
    """The bytes as an array, without a copy."""
    import numpy

    return numpy.frombuffer(data, numpy.dtype(dtype)).reshape(shape)


def _names(given: list[str]) -> list[str]:
    """Every input under a name of its own; a model may leave them empty or give one twice."""
    taken: list[str] = []
    for place, name in enumerate(given):
        taken.append(name if name and name not in taken else f"{name or 'input'}:{place}")
    return taken


def _said(tools: Any, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Whole shapes that are known before the model is compiled, by input."""
    known = [(name, tuple(shape)) for name, _, shape in getattr(tools, "ports", ()) if shape is not None]
    if len(known) == 1 and len(names) == 1:
        known = [(names[0], known[0][1])]
    return {name: shape for name, shape in known if name in names and all(dim >= 0 for dim in shape)}


def _counted(names: list[str]) -> str:
    """Names with how often each stands there."""
    return ", ".join(f"{name} x{names.count(name)}" if names.count(name) > 1 else name for name in dict.fromkeys(names))


def _sentence(fault: Exception) -> str:
    """The first of what an exception says: LiteRT appends one complaint for each tensor."""
    text = " ".join(str(fault).replace("\u2514", " ").split())
    return text if len(text) <= 240 else text[:240] + " …"
