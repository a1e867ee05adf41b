"""ONNX Runtime on its CPU provider, through its Python binding, which brings numpy.

Keys and meanings as in onnxruntime 1.31: `include/onnxruntime/core/session/onnxruntime_session_options_config_keys.h`,
`onnxruntime_run_options_config_keys.h` and `onnxruntime/core/framework/bfc_arena.cc`.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

NAME = "onnxruntime"
EXTRA = "onnxruntime"
DISTRIBUTIONS = ("onnxruntime", "numpy")
READS = ("onnx", "ort")
ENVIRONMENT: dict[str, str] = {
    "ORT_DISABLE_TELEMETRY": "1",
    # wheels from 1.29 on report use over the network, with a database and a thread of their own
    "ORT_LOAD_CONFIG_FROM_MODEL": "0",
    # settings are those of this file, not those a model may carry
    "OPENBLAS_NUM_THREADS": "1",
    # numpy's; each thread takes address space at import
}
SETTINGS = (
    ("arena", True, (), "an arena that grows by extents and keeps them; off asks malloc every time"),
    ("arena_extend", "power_of_two", ("power_of_two", "same_as_requested"), "how the arena grows"),
    ("arena_initial_chunk", 0, (), "bytes of the arena's first extent; 0 is the engine's own (1 MiB)"),
    ("arena_max_extend", 0, (), "most bytes of one power-of-two extent; 0 is the engine's own (1 GiB)"),
    ("arena_shrinkage", False, (), "give unused extents back after each run"),
    ("mem_pattern", True, (), "plan one block for all blobs of known shape after the first run"),
    ("mem_reuse", True, (), "a blob takes the place of one that is not read any more"),
    ("prepacking", True, (), "copies of weights in the order the kernels read; the originals are freed"),
    (
        "optimisation",
        "all",
        ("disable", "basic", "extended", "layout", "all"),
        "rewriting of the graph; layout packs channels in blocks",
    ),
    (
        "initializers_allocator",
        "arena",
        ("arena", "device"),
        "where weights live: reserved in the arena or asked from malloc",
    ),
    ("model_as_bytes", False, (), "hand the file over as bytes, which the Python face keeps as long as the session"),
    ("mmap", False, (), "map a .ort file and use its weights in place; external data of ONNX is mapped always"),
    (
        "execution_mode",
        "sequential",
        ("sequential", "parallel"),
        "independent operators at the same time; switches patterns off",
    ),
    ("inter_threads", 1, (), "threads between operators, for the parallel mode"),
    ("allow_spinning", True, (), "idle threads spin before they sleep; moves time, not memory"),
    (
        "binding",
        "numpy",
        ("numpy", "ortvalue", "io"),
        "results: copied to numpy, left with the engine, or bound beforehand",
    ),
    ("log", False, (), "count the arena's extents from the verbose log; the log itself costs memory"),
    ("profile", False, (), "sizes of every operator from the engine's profile; the profile itself costs memory"),
)

TYPES = {
    "float": "float32", "double": "float64", "float16": "float16", "bfloat16": "bfloat16", "bool": "bool",
    "int8": "int8", "int16": "int16", "int32": "int32", "int64": "int64", "uint8": "uint8", "uint16": "uint16",
    "uint32": "uint32", "uint64": "uint64", "complex64": "complex64", "complex128": "complex128",
}  # fmt: skip
# inside tensor(…), and the name of the same type here
RAW = {"bfloat16": ("uint16", 16)}
# types numpy does not have: what carries their bits, and their number in onnx.proto's TensorProto.DataType

LONGEST_FACT = 900_000
# characters; the wire to the measuring process takes lines of 2^20 bytes
REFUSALS = ("NotImplemented", "InvalidGraph", "InvalidProtobuf", "NoSuchFile", "NoModel", "Fail", "InvalidArgument")
# exceptions of the binding that say something of the model when it is loaded


class Runner:
    """A session on one .onnx or .ort file; weights may lie in files beside it."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.session: Any = None
        self.feeds: Any = None
        self.written = [0]
        # characters on standard output and error at the end of load and of every run

    def start(self) -> None:
        """Import the engine; its log is switched on here because the arena logs through the default logger."""
        import numpy
        import onnxruntime

        self.numpy, self.onnxruntime = numpy, onnxruntime
        if self.settings["log"]:
            onnxruntime.set_default_logger_severity(0)
            onnxruntime.set_default_logger_verbosity(3)

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        """Build the session; marks `read` before it where the file goes in as bytes."""
        chosen, tools = self.settings, self.tools
        self._check(model)
        options = self._options(model)
        source: str | bytes = model
        if chosen["model_as_bytes"]:
            with open(model, "rb", buffering=0) as file:
                source = file.read()
            tools.mark("read")
        try:
            self.session = self.onnxruntime.InferenceSession(
                source, options, providers=["CPUExecutionProvider"], enable_fallback=0
            )
        except Exception as fault:
            if type(fault).__name__ in REFUSALS and "llocate memory" not in str(fault):
                raise tools.Unsupported(refusal(fault, model)) from None
            raise
        del source, options
        self._describe(model)
        self.outputs = [output.name for output in self.session.get_outputs()]
        unranked = self.unranked
        ports = []
        for port in self.session.get_inputs():
            dims = tuple(size if isinstance(size, int) and size >= 0 else -1 for size in port.shape)
            ports.append((port.name, self._dtype(port), None if not dims and port.name in unranked else dims))
        self._logged()
        return ports

    def _check(self, model: str) -> None:
        chosen, tools = self.settings, self.tools
        if not chosen["arena"]:
            defaults = {name: default for name, default, _, _ in SETTINGS}
            for name in ("arena_extend", "arena_initial_chunk", "arena_max_extend", "arena_shrinkage"):
                if chosen[name] != defaults[name]:
                    raise tools.Unsupported(f"{name} says how an arena grows and arena is off")
        if chosen["mmap"]:
            if not model.endswith(".ort"):
                raise tools.Unsupported(
                    "mmap acts on .ort files; an ONNX file is parsed, and its external data is always mapped"
                )
            if chosen["model_as_bytes"]:
                raise tools.Unsupported("mmap maps a file and model_as_bytes hands over none")

    def _options(self, model: str) -> Any:
        import os

        engine, chosen = self.onnxruntime, self.settings
        options = engine.SessionOptions()
        options.intra_op_num_threads = chosen["threads"]
        options.inter_op_num_threads = chosen["inter_threads"]
        options.execution_mode = getattr(engine.ExecutionMode, "ORT_" + chosen["execution_mode"].upper())
        level = chosen["optimisation"].upper()
        options.graph_optimization_level = getattr(
            engine.GraphOptimizationLevel, "ORT_DISABLE_ALL" if level == "DISABLE" else "ORT_ENABLE_" + level
        )
        options.enable_cpu_mem_arena = chosen["arena"]
        options.enable_mem_pattern = chosen["mem_pattern"]
        options.enable_mem_reuse = chosen["mem_reuse"]
        if chosen["log"]:
            options.log_severity_level = 1
            # the session's own lines are not read; 0 would list every node
        if self.profiled:
            options.enable_profiling = True
            options.profile_file_prefix = os.path.join(self.tools.scratch, "profile")
        entries = {
            "session.disable_prepacking": not chosen["prepacking"],
            "session.use_device_allocator_for_initializers": chosen["initializers_allocator"] == "device",
            "session.intra_op.allow_spinning": chosen["allow_spinning"],
            "session.inter_op.allow_spinning": chosen["allow_spinning"],
            "session.use_memory_mapped_ort_model": chosen["mmap"],
            "session.use_ort_model_bytes_for_initializers": chosen["mmap"],
            "session.use_env_allocators": self._own_arena(),
        }
        for key, value in entries.items():
            options.add_session_config_entry(key, "1" if value else "0")
        if chosen["model_as_bytes"]:
            # without a path it would look for external data in the current folder
            options.add_session_config_entry(
                "session.model_external_initializers_file_folder_path", os.path.dirname(os.path.abspath(model))
            )
        self.run_options = engine.RunOptions()
        if chosen["arena_shrinkage"]:
            self.run_options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        return options

    def _own_arena(self) -> bool:
        """An arena of other habits has to be registered with the environment, before the session asks for it."""
        engine, chosen = self.onnxruntime, self.settings
        same = chosen["arena_extend"] == "same_as_requested"
        if not (same or chosen["arena_initial_chunk"] or chosen["arena_max_extend"]):
            return False
        habits = {"arena_extend_strategy": int(same)}
        if chosen["arena_initial_chunk"]:
            habits["initial_chunk_size_bytes"] = chosen["arena_initial_chunk"]
        if chosen["arena_max_extend"]:
            habits["max_power_of_two_extend_bytes"] = chosen["arena_max_extend"]
        where = engine.OrtMemoryInfo("Cpu", engine.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, engine.OrtMemType.DEFAULT)
        engine.create_and_register_allocator(where, engine.OrtArenaCfg(habits))
        return True

    def _describe(self, model: str) -> None:
        tell = self.tools.fact
        tell("providers", " ".join(self.session.get_providers()))
        self.unranked: set[str] = set()
        if model.endswith(".ort"):
            tell("format", "ort")
            return
        external, self.unranked = peek(model)
        tell("external data", f"{external} tensors" if external else "none")

    def _dtype(self, port: Any) -> str:
        kind = port.type
        if not (kind.startswith("tensor(") and kind.endswith(")")):
            raise self.tools.Unsupported(f"input {port.name!r} is a {kind}; tensors alone are fed")
        dtype = TYPES.get(kind[7:-1])
        if dtype is None:
            raise self.tools.Unsupported(f"input {port.name!r} is a {kind}, which has no plain bytes to feed")
        return dtype

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        """Wrap the bytes as arrays or as the engine's values; neither copies."""
        numpy, engine = self.numpy, self.onnxruntime
        how = self.settings["binding"]
        arrays, raw = {}, False
        for name, shape, dtype, data in values:
            carrier, number = RAW.get(dtype, (dtype, 0))
            array = numpy.frombuffer(data, carrier).reshape(shape)
            if how == "numpy" and not number:
                arrays[name] = array
                continue
            raw = raw or how == "numpy"
            if number and not hasattr(engine.OrtValue, "ortvalue_from_numpy_with_onnx_type"):
                raise self.tools.Unsupported(f"this version of onnxruntime binds no {dtype} ({name!r})")
            make = engine.OrtValue
            arrays[name] = (
                make.ortvalue_from_numpy_with_onnx_type(array, number) if number else make.ortvalue_from_numpy(array)
            )
        if raw:
            # one input that numpy cannot carry: all go as the engine's own values
            self.tools.fact("binding", "ortvalue, numpy has no bfloat16")
            arrays = {
                name: engine.OrtValue.ortvalue_from_numpy(value) if isinstance(value, numpy.ndarray) else value
                for name, value in arrays.items()
            }
            how = "ortvalue"
        self.how = how
        if how == "io":
            binding = self.session.io_binding()
            for name, value in arrays.items():
                binding.bind_ortvalue_input(name, value)
            for name in self.outputs:
                binding.bind_output(name, "cpu")
            self.binding = binding
        self.feeds = arrays

    def run(self) -> None:
        """One inference; the results are dropped."""
        session = self.session
        if self.how == "numpy":
            session.run(self.outputs, self.feeds, self.run_options)
        elif self.how == "ortvalue":
            session.run_with_ort_values(self.outputs, self.feeds, self.run_options)
        else:
            session.run_with_iobinding(self.binding, self.run_options)
            self.binding.clear_binding_outputs()
            for name in self.outputs:
                self.binding.bind_output(name, "cpu")
        self._logged()

    def _logged(self) -> None:
        if self.settings["log"]:
            self.written.append(len(self.tools.output()))

    @property
    def profiled(self) -> bool:
        """The timeline's operators come from the profile too: the engine calls nobody between two operators."""
        return bool(self.settings["profile"] or self.tools.timeline)

    def release(self) -> None:
        """Drop inputs, bindings and the session; read its profile and log before and after."""
        profile = self.session.end_profiling() if self.profiled else ""
        started = self.session.get_profiling_start_time_ns() if profile else 0
        self.feeds = self.binding = self.session = self.run_options = None
        if profile:
            tell_profile(profile, started, self.tools.fact)
        if self.settings["log"]:
            tell_arena(self.tools.output(), self.written, self.tools.fact)


def refusal(fault: Exception, model: str) -> str:
    """What the engine says against a model, as one sentence, the operator's name in front where it names one."""
    import os
    import re

    text = " ".join(str(fault).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : ", "", text)
    text = re.sub(r"/onnxruntime_src/\S+:\d+ .*?\) (?=[A-Z])", "", text)
    # where in its source, and the function's whole signature
    found = re.search(r"find an implementation for (\w+)\((\d+)\)", text)
    if found:
        return f"ONNX Runtime has no kernel for operator {found[1]} (version {found[2]}): {text}"
    found = re.search(r"No Op registered for (\w+)|(\S+) is not a registered function/op", text)
    if found:
        return f"ONNX Runtime does not know operator {found[1] or found[2]}: {text}"
    if type(fault).__name__ == "InvalidProtobuf":
        return f"{os.path.basename(model)} is no ONNX file or is damaged: {text}"
    return f"ONNX Runtime refuses {os.path.basename(model)}: {text}"


def tell_profile(path: str, started: int, fact: Any) -> None:
    """Sums over the last run's operators in the engine's profile, and all of them as JSON.

    `started` is when the profile began, in nanoseconds of the system's clock. Sizes are the engine's: activation_size
    is what an operator reads of other operators and of the inputs, output_size what it writes, parameter_size its
    weights (onnxruntime/core/framework/sequential_executor.cc). Since 1.31 the arena's own account stands there too.
    """
    import json
    import os

    with open(path, encoding="utf-8") as file:
        events = json.load(file)
    os.unlink(path)
    runs: list[list[dict[str, Any]]] = [[]]
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            runs[-1].append(event)
        elif event.get("cat") == "Session" and event["name"] == "model_run":
            runs.append([])
            # written when a run has ended
    done = [run for run in runs if run]
    if not done:
        return
    rows = []
    for number, run in enumerate(done, 1):
        for event in sorted(run, key=lambda event: event["ts"]):
            args = event["args"]
            rows.append(
                {
                    "run": number,
                    "name": event["name"].removesuffix("_kernel_time"),
                    "operator": args["op_name"],
                    "provider": args.get("provider", ""),
                    "begin_us": event["ts"],
                    "duration_us": event["dur"],
                    **{key: int(args[key]) for key in sorted(args) if key.endswith("_size") or key.startswith("mem_")},
                }
            )
    last = [row for row in rows if row["run"] == len(done)]
    largest = max(last, key=lambda row: row["activation_size"] + row["output_size"])
    fact("operators run", len(last))
    fact("largest input+output", largest["activation_size"] + largest["output_size"])
    fact("largest input+output at", f"{largest['name']} ({largest['operator']})")
    fact("parameters", sum(row["parameter_size"] for row in last))
    # a weight that two operators read counts twice
    for name in sorted({row["provider"] for row in last}):
        fact(f"operators on {name or 'no provider'}", sum(row["provider"] == name for row in last))
    if "mem_arena_held" in last[0]:
        tell_account(rows, fact)
    fact("profile began", started)
    text = json.dumps(rows, separators=(",", ":"))
    if len(text) > LONGEST_FACT:
        text = json.dumps(last, separators=(",", ":"))
        # the runs before it have the same operators
    fact("operators", text if len(text) <= LONGEST_FACT else f"left out, {len(last)} of them")


def tell_account(rows: list[dict[str, Any]], fact: Any) -> None:
    """The arena's own account, which the profile holds for the end of each operator, before its inputs are let go.

    What was in use before the first operator of all is weights. The rest is blobs: operator by operator in the first
    run, one planned block in later ones where memory patterns are on. Inputs of the network are not in it.
    """
    before = rows[0]["mem_bytes_requested_in_use"] - rows[0]["mem_requested_in_use_delta"]
    fact("arena held", max(row["mem_arena_held"] for row in rows))
    fact("arena in use at most", max(row["mem_in_use_peak"] for row in rows))
    fact("arena, weights", before)
    for number in sorted({row["run"] for row in rows}):
        top = max(row["mem_bytes_requested_in_use"] for row in rows if row["run"] == number)
        fact(f"arena, blobs at most, run {number}", top - before)


def tell_arena(text: str, ends: list[int], fact: Any) -> None:
    """The arena's extents, phase by phase, from the lines of `bfc_arena.cc` at level INFO; `ends` cut the phases."""
    import re

    extents = []
    for number in range(len(ends) - 1):
        begin, end = ends[number : number + 2]
        phase = f"run {number}" if number else "load"
        grown = re.findall(r"Extended allocation by (\d+) bytes", text[begin:end])
        extents += [int(size) for size in grown]
        if grown:
            fact(f"arena extents, {phase}", " ".join(grown))
        held = [int(size) for size in re.findall(r"Reserving memory in BFCArena for \S+ size: (\d+)", text[begin:end])]
        if held:
            fact(f"arena reserved, {phase}", f"{sum(held)} in {len(held)}")
    totals = re.findall(r"Total allocated bytes: (\d+)", text)
    fact("arena extended", sum(extents))
    if totals:
        fact("arena total", totals[-1])
        # reserved blocks included


def peek(model: str) -> tuple[int, set[str]]:
    """How many weights lie outside the file, and which inputs have no rank, which the binding shows as a scalar's.

    Walks the fields of ModelProto, GraphProto, TensorProto and ValueInfoProto (numbers from onnx.proto) and seeks over
    every content, so that neither weights nor the engine's state are touched.
    """
    external, unranked = 0, set()
    with open(model, "rb") as file:
        size = file.seek(0, 2)
        for number, begin, end in fields(file, 0, size):
            if number != 7:
                continue
            # graph
            for part, inner, stop in fields(file, begin, end):
                if part == 5:
                    # initializer, with data_location = EXTERNAL
                    external += any(key == 14 and value == 1 for key, _, value in fields(file, inner, stop))
                elif part == 11:
                    name, shaped = "", False
                    for key, first, last in fields(file, inner, stop):
                        if key == 1:
                            file.seek(first)
                            name = file.read(last - first).decode("utf-8", "replace")
                        elif key == 2:
                            shaped = any(
                                deep == 2
                                for kind, low, high in fields(file, first, last)
                                if kind == 1
                                for deep, _, _ in fields(file, low, high)
                            )
                            # tensor_type.shape
                    if not shaped:
                        unranked.add(name)
    return external, unranked


def fields(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Fields of one protobuf message: number and the content's bounds; for a plain number -1 and its value."""

    def varint() -> int:
        value = shift = 0
        while shift < 70:
            byte = file.read(1)
            if not byte:
                break
            value |= (byte[0] & 127) << shift
            shift += 7
            if byte[0] < 128:
                break
        return value

    while begin < end:
        file.seek(begin)
        key = varint()
        kind = key & 7
        if kind == 0:
            value = varint()
            begin = file.tell()
            yield key >> 3, -1, value
        elif kind == 2:
            length = varint()
            start = file.tell()
            begin = start + length
            yield key >> 3, start, min(begin, end)
        elif kind in (1, 5):
            begin = file.tell() + (8 if kind == 1 else 4)
        else:
            return
