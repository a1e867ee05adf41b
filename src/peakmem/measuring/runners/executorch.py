"""ExecuTorch, through its Python binding, which stands on PyTorch: the import is far larger than the engine.

What a program needs is planned ahead and written in the `.pte` file: planned buffers, delegates and segments are told
as facts, read from the file's own tables a few bytes at a time, so that reading them leaves no trace in the process.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

NAME = "executorch"
EXTRA = "executorch"
DISTRIBUTIONS = ("executorch", "torch")
READS = ("pte",)
ENVIRONMENT: dict[str, str] = {
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
}
SETTINGS = (
    ("load", "file", ("file", "bytes"), "file: mapped, and locked where the system allows; bytes: a copy on the heap"),
    (
        "verification",
        "internal_consistency",
        ("minimal", "internal_consistency"),
        "how much of the file is read for checks",
    ),
    ("clone_outputs", True, (), "results as copies; off hands out the planned memory itself"),
    ("method", "forward", (), "which method of the program"),
    (
        "face",
        "extension",
        ("extension", "runtime"),
        "extension: the binding alone; runtime: executorch.runtime, which brings the exporter along",
    ),
)

DTYPES = {
    0: "uint8", 1: "int8", 2: "int16", 3: "int32", 4: "int64", 5: "float16", 6: "float32", 7: "float64",
    9: "complex64", 10: "complex128", 11: "bool", 15: "bfloat16", 27: "uint16", 28: "uint32", 29: "uint64",
}  # fmt: skip
# ScalarType of executorch/schema/scalar_type.fbs


class Runner:
    """Runs one method of a `.pte` file; its delegates were chosen when the file was made."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.data: bytes | None = None
        # the program, which the engine does not copy

    def start(self) -> None:
        import importlib
        import os

        threads = self.settings["threads"]
        try:
            import torch

            if self.settings["face"] == "runtime":
                importlib.import_module("executorch.runtime")
            folder = importlib.import_module("executorch.extension.pybindings")
            names = {name.split(".")[0] for path in folder.__path__ for name in os.listdir(path)}
            binding = importlib.import_module(f"{folder.__name__}.{'_C' if '_C' in names else '_portable_lib'}")
            # it was renamed in 1.5
        except ModuleNotFoundError as fault:
            raise self.tools.Missing(f"ExecuTorch is not installed: {fault}") from fault
        except ImportError as fault:
            raise self.tools.Missing(f"ExecuTorch does not go with the PyTorch that is installed: {fault}") from fault
        self.torch, self.binding = torch, binding
        torch.set_num_threads(threads)
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        binding._unsafe_reset_threadpool(threads)
        self.tools.fact("threads of its pool", binding._threadpool_get_thread_count())
        self.tools.fact("backends", " ".join(sorted(binding._get_registered_backend_names())))
        self.tools.fact("torch", torch.__version__)

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        binding, chosen, tools = self.binding, self.settings, self.tools
        try:
            self._tell(model, chosen["method"])
        except OSError as fault:
            raise tools.Unsupported(f"the program cannot be read: {fault.strerror}") from fault
        except ValueError as fault:
            raise tools.Unsupported(f"this is no program of ExecuTorch: {fault}") from fault
        checks = {"minimal": "Minimal", "internal_consistency": "InternalConsistency"}[chosen["verification"]]
        verification = getattr(binding.Verification, checks)
        try:
            if chosen["load"] == "bytes":
                with open(model, "rb") as file:
                    self.data = file.read()
                self.program = binding._load_program_from_buffer(self.data, program_verification=verification)
            else:
                self.program = binding._load_program(model, program_verification=verification)
            tools.mark("read")
            names = [self.program.get_method_name(number) for number in range(self.program.num_methods())]
            if chosen["method"] not in names:
                raise tools.Unsupported(f"the program has no method {chosen['method']!r}, it has {', '.join(names)}")
            self.method = self.program.load_method(chosen["method"])
        except RuntimeError as fault:
            raise tools.Unsupported(f"ExecuTorch cannot load it: {fault}{self._said()}") from fault
        meta = self.method.method_meta()
        ports: list[tuple[str, str, tuple[int, ...] | None]] = []
        for number in range(meta.num_inputs()):
            try:
                info = meta.input_tensor_meta(number)
            except (RuntimeError, IndexError) as fault:
                raise tools.Unsupported(f"input {number} of {chosen['method']} is no tensor: {fault}") from fault
            if info.dtype() not in DTYPES:
                raise tools.Unsupported(f"input {number} has elements of a kind unknown here ({info.dtype()})")
            ports.append((f"input_{number}", DTYPES[info.dtype()], tuple(info.sizes())))
        return ports

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        torch = self.torch
        self.inputs = []
        for _, shape, dtype, data in values:
            kind = getattr(torch, dtype)
            tensor = torch.frombuffer(data, dtype=kind).reshape(shape) if data else torch.empty(shape, dtype=kind)
            self.inputs.append(tensor)

    def run(self) -> None:
        try:
            self.method.call(self.inputs, clone_outputs=self.settings["clone_outputs"])
        except RuntimeError as fault:
            raise self.tools.Unsupported(f"ExecuTorch cannot run it: {fault}{self._said()}") from fault

    def release(self) -> None:
        import gc

        self.inputs = self.method = self.program = self.data = None  # type: ignore[assignment]
        gc.collect()

    def _said(self) -> str:
        """What the engine wrote last, for it tells its reasons there."""
        lines = [line.strip() for line in self.tools.output().splitlines() if line.startswith("[")]
        told = [line for line in lines if not line.startswith(("[threadpool.cpp", "[cpuinfo"))]
        return f" ({told[-1]})" if told else ""

    def _tell(self, model: str, method: str) -> None:
        """Facts from the file's tables.

        Raises:
            ValueError: it is no program, or is cut short.
        """
        import os

        tell = self.tools.fact
        file = os.open(model, os.O_RDONLY)
        try:
            table = _Table.root(lambda at, count: os.pread(file, count, at))
            tell("schema version", table.number(0, 4))
            for plan in table.tables(1):
                if plan.text(0) != method:
                    continue
                planned = plan.numbers(8, 8)[1:]
                # buffer 0 stands for the constants
                tell("planned buffers", " ".join(map(str, planned)))
                tell("planned bytes", sum(planned))
                tell("delegates", " ".join(delegate.text(0) for delegate in plan.tables(7)) or "none")
                tell("operators outside of delegates", len(plan.tables(6)))
            segments = [segment.number(1, 8) for segment in table.tables(4)]
            tell("segment bytes", " ".join(map(str, segments)))
            tell("file bytes", os.fstat(file).st_size)
        finally:
            os.close(file)


class _Table:
    """A table of a FlatBuffer, read field by field; slots are numbers in executorch/schema/program.fbs."""

    def __init__(self, read: Callable[[int, int], bytes], at: int) -> None:
        self.read, self.at = read, at
        self.slots = at - self._integer(at, 4, signed=True)

    @classmethod
    def root(cls, read: Callable[[int, int], bytes]) -> _Table:
        head = read(0, 8)
        if len(head) < 8 or head[4:6] != b"ET":
            raise ValueError("its identifier is not ET12")
        return cls(read, int.from_bytes(head[:4], "little"))

    def _integer(self, at: int, width: int, *, signed: bool = False) -> int:
        data = self.read(at, width) if at >= 0 else b""
        if len(data) < width:
            raise ValueError("a table lies outside of the file")
        return int.from_bytes(data, "little", signed=signed)

    def _field(self, slot: int) -> int:
        """Where the field is; 0 when it is not there."""
        if 4 + 2 * slot >= self._integer(self.slots, 2):
            return 0
        offset = self._integer(self.slots + 4 + 2 * slot, 2)
        return self.at + offset if offset else 0

    def number(self, slot: int, width: int) -> int:
        at = self._field(slot)
        return self._integer(at, width) if at else 0

    def _vector(self, slot: int) -> tuple[int, int]:
        """Where the elements begin, and how many there are."""
        at = self._field(slot)
        if not at:
            return 0, 0
        at += self._integer(at, 4)
        count = self._integer(at, 4)
        if count > 10_000_000:
            raise ValueError("a list is longer than the file")
        return at + 4, count

    def text(self, slot: int) -> str:
        at, count = self._vector(slot)
        return self.read(at, min(count, 200)).decode("utf-8", "replace")

    def numbers(self, slot: int, width: int) -> list[int]:
        at, count = self._vector(slot)
        return [self._integer(at + width * number, width) for number in range(count)]

    def tables(self, slot: int) -> list[_Table]:
        at, count = self._vector(slot)
        places = range(at, at + 4 * count, 4)
        return [_Table(self.read, place + self._integer(place, 4)) for place in places]
