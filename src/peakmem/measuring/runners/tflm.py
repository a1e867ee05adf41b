"""TensorFlow Lite for Microcontrollers, through the Python binding of tflite-micro.

Everything the interpreter needs lies in one arena: buffers of tensors at its head, what lasts at its tail. The binding
takes the arena from the heap before it knows what will be used, so the process says little; the engine's own account
says all. What only the source tells (tensorflow/lite/micro) stands beside the line that relies on it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "tflm"
EXTRA = "tflm"
DISTRIBUTIONS = ("tflite-micro",)
READS = ("tflite",)
ENVIRONMENT: dict[str, str] = {}
SETTINGS = (
    ("arena", 0, (), "bytes of the arena; 0 takes ten times the file, at most 2 GiB, as the binding does"),
    ("interpreter", "recording", ("recording", "preserve_all_tensors"), "account for the arena and let tensors share bytes, or keep each tensor apart"),  # noqa: E501
    ("decompression_memory", 0, (), "bytes beside the arena for weights that are stored compressed"),
    ("reset", False, (), "set variables back before each run"),
    ("smallest_arena", False, (), "afterwards search for the smallest arena that runs, in steps of 16 bytes"),
)  # fmt: skip

STEP = 16
# MicroArenaBufferAlignment (micro_arena_constants.h)
LARGEST = 2**31 - STEP
# the arena's offsets are int
TOLD = "[RecordingMicroAllocator] "


class Runner:
    """Loads a .tflite; shapes are those of the file."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools

    def start(self) -> None:
        import numpy
        from tflite_micro.python.tflite_micro import runtime

        self.numpy: Any = numpy
        self.runtime: Any = runtime

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        with open(model, "rb") as file:
            self.data = data = file.read()
        if data[4:8] != b"TFL3":
            # the interpreter would follow offsets in whatever it gets
            raise self.tools.Unsupported("not a .tflite: its identifier is not TFL3")
        self.arena = self.settings["arena"] or min(10 * len(data), LARGEST)
        if not self.arena > 0:
            raise self.tools.Unsupported(f"an arena of {self.arena} B")
        # a view of the file, nothing is unpacked
        whole = self.runtime.schema_fb.Model.GetRootAsModel(data, 0)
        try:
            apart = any(whole.Buffers(at).Offset() > 1 for at in range(whole.BuffersLength()))
        except Exception as fault:
            # offsets out of the file, numbers out of their range: the view checks nothing
            raise self.tools.Unsupported(f"the .tflite is damaged or cut off: {fault}") from None
        if apart:
            # TFLM does not know Buffer.offset (schema.fbs): it gives such weights room in its arena, and runs
            raise self.tools.Unsupported("weights behind the flatbuffer, which TFLM takes for activations")
        self.interpreter = self._interpreter(self.arena)
        graph = whole.Subgraphs(0)
        ports: list[tuple[str, str, tuple[int, ...] | None]] = []
        for at in range(graph.InputsLength()):
            told = self.interpreter.get_input_details(at)
            name = graph.Tensors(graph.Inputs(at)).Name()
            shape = tuple(int(dim) for dim in told["shape"])
            ports.append(
                (name.decode("utf-8", "replace") if name else f"input{at}", self.numpy.dtype(told["dtype"]).name, shape)
            )
        fact = self.tools.fact
        fact("model", f"{len(data)} B")
        fact("arena", f"{self.arena} B{'' if self.settings['arena'] else ', ten times the file or as much as can be'}")
        fact("operators", graph.OperatorsLength())
        variables = [graph.Tensors(at) for at in range(graph.TensorsLength()) if graph.Tensors(at).IsVariable()]
        if variables:
            fact("variable tensors", len(variables))
        return ports

    def _interpreter(self, arena: int) -> Any:
        kind = self.runtime.InterpreterConfig
        recording = self.settings["interpreter"] == "recording"
        try:
            return self.runtime.Interpreter.from_bytes(
                self.data,
                arena_size=arena,
                intrepreter_config=kind.kAllocationRecording if recording else kind.kPreserveAllTensors,
                alt_decompression_memory_size=self.settings["decompression_memory"],
            )
        except RuntimeError as fault:
            raise self.tools.Unsupported(refusal(self.tools.output(), arena) or str(fault)) from None

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        numpy = self.numpy
        self.inputs = [numpy.frombuffer(data, dtype).reshape(shape) for _, shape, dtype, data in values]
        self._set_inputs(self.interpreter)

    def _set_inputs(self, interpreter: Any) -> None:
        for at, value in enumerate(self.inputs):
            interpreter.set_input(value, at)

    def run(self) -> None:
        if self.settings["reset"]:
            self.interpreter.reset()
        self._set_inputs(self.interpreter)
        # each time: other tensors may lie where inputs lay
        try:
            self.interpreter.invoke()
        except RuntimeError as fault:
            raise self.tools.Unsupported(refusal(self.tools.output(), self.arena) or str(fault)) from None

    def release(self) -> None:
        used = 0
        if self.settings["interpreter"] == "recording":
            self.interpreter.print_allocations()
            for name, value in allocations(self.tools.output()):
                self.tools.fact(name, value)
                if name == "total":
                    used = int(value)
        self.interpreter = None
        if self.settings["smallest_arena"]:
            smallest = self._smallest(used)
            self.tools.fact("smallest arena", str(smallest) if smallest else f"none up to {LARGEST} B")
        self.inputs = self.data = None  # type: ignore[assignment]

    def _smallest(self, used: int) -> int:
        """The smallest arena, in bytes, in which the network is set up and runs; 0 where none is found.

        Each try is a forked child, so that one that crashes is a try that failed and this process stays as it was. Only
        the setting up takes from the arena, apart from what an operator takes for itself while it runs; so a run is
        tried at the end, and from there upwards where it fails.
        """
        works = self._doubled(used or len(self.data) // 10, invoke=False)
        if not works:
            return 0
        found = self._bisected(works, invoke=False)
        if self._tried(found, invoke=True):
            return found
        works = self._doubled(found, invoke=True)
        return self._bisected(works, invoke=True) if works else 0

    def _doubled(self, size: int, *, invoke: bool) -> int:
        """The first arena that works of `size`, twice that, and so on; 0 where none does."""
        size = -(-size // STEP) * STEP or STEP
        while size <= LARGEST:
            if self._tried(size, invoke=invoke):
                return size
            size *= 2
        return 0

    def _bisected(self, works: int, *, invoke: bool) -> int:
        fails = 0
        while works - fails > STEP:
            middle = (works + fails) // 2 // STEP * STEP
            if self._tried(middle, invoke=invoke):
                works = middle
            else:
                fails = middle
        return works

    def _tried(self, arena: int, *, invoke: bool) -> bool:
        import os

        child = os.fork()
        if child:
            return os.waitpid(child, 0)[1] == 0
        try:
            silence = os.open(os.devnull, os.O_WRONLY)
            os.dup2(silence, 1)
            os.dup2(silence, 2)
            interpreter = self._interpreter(arena)
            self._set_inputs(interpreter)
            if invoke:
                interpreter.invoke()
            os._exit(0)
        finally:
            os._exit(1)


def allocations(output: str) -> list[tuple[str, str]]:
    """What print_allocations said last, in bytes: total, head, tail, and each kind of record at the tail."""
    found: dict[str, str] = {}
    for line in output.splitlines():
        at = line.find(TOLD)
        if at < 0:
            continue
        text = line[at + len(TOLD) :]
        words = text.split()
        if text.startswith("Arena allocation ") and len(words) >= 4 and words[3].isdigit():
            if words[2] == "total":
                found = {}
            found[words[2]] = words[3]
        elif text.startswith("'"):
            name, _, rest = text[1:].partition("' used ")
            if rest.split(" ", 1)[0].isdigit():
                found["tail: " + name] = rest.split(" ", 1)[0]
    return list(found.items())


def refusal(output: str, arena: int) -> str:
    """Why the interpreter refused, from what it wrote; empty where it wrote nothing of that."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        for sign in ("Didn't find op for builtin opcode '", "Failed to get registration from op code "):
            if sign in line:
                return f"this build has no operator {line.partition(sign)[2].split(chr(39))[0].strip()}"
    for line in lines:
        if ("missing:" in line and "Requested:" in line) or line.startswith("Too many buffers"):
            # GreedyMemoryPlanner plans in what is left of the arena
            return f"an arena of {arena} B is too small: {line}"
    return "; ".join(lines[-3:])
