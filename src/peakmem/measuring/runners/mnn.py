"""MNN on the processor, through a session or through its newer module; `import MNN` brings numpy.

Numbers of modes and hints are those of MNN 3.6, include/MNN/Interpreter.hpp (SessionMode, HintMode). The command
`mnnconvert` is never called: it installs packages and reports statistics. The import itself does neither.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "mnn"
EXTRA = "mnn"
DISTRIBUTIONS = ("MNN",)
READS = ("mnn",)
ENVIRONMENT: dict[str, str] = {}
SETTINGS = (
    ("api", "session", ("session", "module"), "the module plans at its first run and not at load"),
    ("winograd_level", 3, (0, 1, 2, 3), "tile sizes tried for 3x3 convolutions; larger ones keep larger weights"),
    ("precision", "normal", ("normal", "low", "high", "low_bf16"), "low: fp16 or bf16 where the processor computes in it"),  # noqa: E501
    ("memory", "normal", ("normal", "low", "high"), "low: quantised weights stay quantised"),
    ("allocator", "defer", ("defer", "eager"), "defer plans all tensors of the session first, eager takes memory as it goes"),  # noqa: E501
    ("static_memory", "collect", ("collect", "cache"), "cache keeps what a resize would give back"),
    ("resize", "direct", ("direct", "defer"), "session: direct plans as the session is made, defer when it is told to"),
    ("callbacks", True, (), "session: operators may be watched; off lets it forget what they were"),
    ("shape_mutable", True, (), "module: shapes may change from run to run; off plans at load"),
    ("rearrange", False, (), "module: weights are brought into the engine's order while loading, the file's go"),
    ("dynamic", False, (), "module: operators are run one by one, as an expression"),
)  # fmt: skip

_OF_SESSION = ("resize", "callbacks")
_OF_MODULE = ("shape_mutable", "rearrange", "dynamic")
_ALLOCATOR, _WINOGRAD = 2, 3
# hints
_MODES: dict[str, dict[Any, int]] = {
    "callbacks": {True: 0, False: 1},
    "resize": {"direct": 6, "defer": 7},
    "static_memory": {"collect": 10, "cache": 11},
}
_MEMORY, _OPERATIONS, _BACKEND = 0, 1, 2
# of getSessionInfo
_CODES = {
    1: "out of memory", 2: "not supported", 3: "a shape cannot be computed", 4: "no execution for an operator",
    5: "invalid value", 10: "input data error", 20: "a tensor is not supported",
}  # fmt: skip
# of include/MNN/ErrorCode.hpp
_BACKENDS = {0: "CPU", 13: "CPU with vector extensions"}
# of include/MNN/MNNForwardType.h


class Runner:
    """Loads a .mnn; the work is done by one of the classes below."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.inside: Any = None

    def start(self) -> None:
        module = self.settings["api"] == "module"
        defaults = {row[0]: row[1] for row in SETTINGS}
        for name in _OF_SESSION if module else _OF_MODULE:
            if self.settings[name] != defaults[name]:
                raise self.tools.Unsupported(f"{name} is a setting of api={'session' if module else 'module'}")
        self.inside = (_Module if module else _Session)(self.settings, self.tools)

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        ports: list[tuple[str, str, tuple[int, ...] | None]] = self.inside.load(model)
        return ports

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        self.inside.feed(values)

    def run(self) -> None:
        self.inside.run()

    def release(self) -> None:
        self.inside.release()
        self.inside = None


class _Session:
    """MNN.Interpreter and its session. The interpreter keeps the file in memory: releaseModel is not in the binding."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        import MNN

        self.settings = settings
        self.tools = tools
        self.library = MNN

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        try:
            net = self.net = self.library.Interpreter(model)
        except Exception as fault:
            raise self.tools.Unsupported(f"MNN cannot read the model: {_said_last(self.tools, fault)}") from None
        self.tools.mark("read")
        net.setSessionHint(_ALLOCATOR, int(self.settings["allocator"] == "eager"))
        net.setSessionHint(_WINOGRAD, self.settings["winograd_level"])
        for name, numbers in _MODES.items():
            net.setSessionMode(numbers[self.settings[name]])
        try:
            self.session = net.createSession(_configuration(self.settings))
        except Exception as fault:
            raise self.tools.Unsupported(f"MNN cannot make a session: {_said_last(self.tools, fault)}") from None
        if self.session is None:
            raise self.tools.Unsupported("MNN cannot make a session: " + _said_last(self.tools, None))
        self.ports = net.getSessionInputAll(self.session)
        known = _types(self.library)
        types = {name: known.get(_address(tensor.getDataType()), "string") for name, tensor in self.ports.items()}
        for name, dtype in types.items():
            if dtype == "string":
                raise self.tools.Unsupported(f"input {name} is not of numbers")
        changed = [self._resize(name, shape) for name, shape in _known(self.tools, list(self.ports)).items()]
        whole = all(dim >= 0 for tensor in self.ports.values() for dim in tensor.getShape())
        if whole and (any(changed) or self.settings["resize"] == "defer"):
            net.resizeSession(self.session)
        self.planned = whole
        self._tell()
        return [(name, types[name], tuple(tensor.getShape())) for name, tensor in self.ports.items()]

    def _resize(self, name: str, shape: tuple[int, ...]) -> bool:
        tensor = self.ports[name]
        if tuple(tensor.getShape()) == tuple(shape):
            return False
        self.net.resizeTensor(tensor, tuple(shape))
        return True

    def _tell(self) -> None:
        """What the session says of itself; the engine keeps no account per tensor."""
        mebibytes = float(self.net.getSessionInfo(self.session, _MEMORY))
        self.tools.fact("session memory", f"{round(mebibytes * 2**20)} B")
        # said in MiB, as a float
        self.tools.fact("operations", f"{float(self.net.getSessionInfo(self.session, _OPERATIONS)):.3f} M")
        backend = int(self.net.getSessionInfo(self.session, _BACKEND))
        self.tools.fact("backend", _BACKENDS.get(backend, f"number {backend}"))
        self.tools.fact("made by", f"converter {self.net.getModelVersion()}")

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        changed = [self._resize(name, shape) for name, shape, _, _ in values]
        if any(changed) or not self.planned:
            self.net.resizeSession(self.session)
            self._tell()
        self.inputs = []
        for name, shape, dtype, data in values:
            inside = self.ports[name]
            # the session may use an input's memory again after its last reader, so every run copies from these
            host = self.library.Tensor(
                tuple(shape), inside.getDataType(), _array(data, dtype, shape), inside.getDimensionType()
            )
            self.inputs.append((inside, host))

    def run(self) -> None:
        for inside, host in self.inputs:
            inside.copyFrom(host)
        if self.tools.timeline and self.tools.instrumented and self.settings["callbacks"]:
            code = self.net.runSessionWithCallBackInfo(self.session, self._before, _after)
        else:
            code = self.net.runSession(self.session)
        if code == 1:
            raise MemoryError("MNN found no memory")
        if code not in (0, True):
            reason = _CODES.get(code, f"code {code}")
            raise self.tools.Unsupported(f"MNN cannot run the model: {reason} {_said_last(self.tools, None)}".strip())

    def _before(self, _tensors: Any, operator: Any) -> bool:
        self.tools.note(f"begin\t{operator.getType()}\t{operator.getName()}")
        return True

    def release(self) -> None:
        self.inputs, self.ports, self.session, self.net = [], {}, None, None


class _Module:
    """MNN.nn: a module in a runtime manager; it plans at its first run."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        import MNN
        from MNN import expr, nn

        self.settings = settings
        self.tools = tools
        self.library = MNN
        self.expr = expr
        self.nn = nn

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        settings = self.settings
        self.runtime = self.nn.create_runtime_manager((_configuration(settings),))
        self.runtime.set_hint(_ALLOCATOR, int(settings["allocator"] == "eager"))
        self.runtime.set_hint(_WINOGRAD, settings["winograd_level"])
        for name, numbers in _MODES.items():
            if name not in _OF_SESSION:
                self.runtime.set_mode(numbers[settings[name]])
        try:
            self.module = self.nn.load_module_from_file(
                model, [], [], runtime_manager=self.runtime, dynamic=settings["dynamic"],
                shape_mutable=settings["shape_mutable"], rearrange=settings["rearrange"],
            )  # fmt: skip
        except Exception as fault:
            raise self.tools.Unsupported(f"MNN cannot read the model: {_said_last(self.tools, fault)}") from None
        if self.module is None:
            raise self.tools.Unsupported(f"MNN cannot read the model: {_said_last(self.tools, None)}")
        about = self.module.get_info()
        self.names = list(about["inputNames"])
        self.formats = {name: one.data_format for name, one in zip(self.names, about["inputs"], strict=True)}
        self.tools.fact("made by", f"converter {about['version']}")
        types = [str(one.dtype).rpartition(".")[2] for one in about["inputs"]]
        known = {"float": "float32", "int": "int32", "uint8": "uint8", "int64": "int64", "double": "float64"}
        for name, dtype in zip(self.names, types, strict=True):
            if dtype not in known:
                raise self.tools.Unsupported(f"input {name} is of type {dtype}, which cannot be fed as an array")
        return [
            (name, known[dtype], tuple(one.shape))
            for name, dtype, one in zip(self.names, types, about["inputs"], strict=True)
        ]

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        kinds = {"float32": "float", "int32": "int", "uint8": "uint8", "int64": "int64", "float64": "double"}
        made = {
            name: self.expr.const(
                _array(data, dtype, shape), list(shape), self.formats[name], getattr(self.expr, kinds[dtype])
            )
            for name, shape, dtype, data in values
        }
        self.inputs = [made[name] for name in self.names]

    def run(self) -> None:
        try:
            outputs = self.module.forward(self.inputs)
        except Exception as fault:
            raise self.tools.Unsupported(f"MNN cannot run the model: {_said_last(self.tools, fault)}") from None
        outputs = outputs if isinstance(outputs, list) else [outputs]
        if not outputs:
            raise self.tools.Unsupported(f"MNN cannot run the model: {_said_last(self.tools, None)}")
        for output in outputs:
            output.read()
            # a module may compute only what is asked for

    def release(self) -> None:
        self.inputs, self.module, self.runtime = [], None, None


def _after(_tensors: Any, _operator: Any) -> bool:
    return True


def _configuration(settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "backend": "CPU",
        "numThread": settings["threads"],
        "precision": settings["precision"],
        "memory": settings["memory"],
    }


def _types(library: Any) -> dict[int, str]:
    """Element types by where the library keeps the description of each."""
    return {
        _address(getattr(library, f"Halide_Type_{name}")): dtype
        for name, dtype in (
            ("Float", "float32"), ("Double", "float64"), ("Int", "int32"), ("Int64", "int64"), ("Uint8", "uint8"),
        )
    }  # fmt: skip


def _address(capsule: Any) -> int:
    """What a capsule points to: the binding compares types by it, and so do we."""
    import ctypes

    point = ctypes.pythonapi.PyCapsule_GetPointer
    point.restype, point.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    return int(point(capsule, None) or 0)


def _array(data: bytearray, dtype: str, shape: tuple[int, ...]) -> Any:
    """The bytes as an array, without a copy."""
    import numpy

    return numpy.frombuffer(data, numpy.dtype(dtype)).reshape(shape)


def _known(tools: Any, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Whole shapes that are known before the model is compiled, by input."""
    known = [(name, tuple(shape)) for name, _, shape in getattr(tools, "ports", ()) if shape is not None]
    if len(known) == 1 and len(names) == 1:
        known = [(names[0], known[0][1])]
    return {name: shape for name, shape in known if name in names and all(dim >= 0 for dim in shape)}


def _said_last(tools: Any, fault: Exception | None) -> str:
    """Why: MNN writes its reasons to standard output, the exception points there."""
    lines = [line.strip() for line in tools.output().splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("The device support")]
    return "; ".join(lines[-2:]) if lines else " ".join(str(fault or "no reason given").split())
