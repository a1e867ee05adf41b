"""PyTorch eager on the CPU: a module, a function of the user, an exported program or TorchScript.

Not eager, but of the same runtime: `compiled` and `jit`. With a timeline wanted, every ATen operator is noted in the
event list, with the module it runs in and the storages it returns.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

NAME = "pytorch"
EXTRA = "torch"
DISTRIBUTIONS = ("torch",)
READS = ("torch",)
ENVIRONMENT: dict[str, str] = {
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
    # no packages of other devices at import
    "TORCHINDUCTOR_COMPILE_THREADS": "1",
    # no pool of compiling processes
}
SETTINGS = (
    (
        "mode",
        "inference",
        ("inference", "no_grad", "grad"),
        "grad keeps what a backward pass would need until the results are dropped",
    ),
    ("compiled", False, (), "torch.compile: fused operators; compiled in run 1, needs a C++ compiler"),
    (
        "jit",
        "off",
        ("off", "freeze", "optimize"),
        "TorchScript with weights as constants; optimize also repacks them for oneDNN",
    ),
    ("dtype", "as_built", ("as_built", "float16", "bfloat16"), "weights and floating inputs in this dtype"),
    ("channels_last", False, (), "weights and images with channels innermost: other kernels, other scratch memory"),
    ("mkldnn", True, (), "oneDNN kernels, which pack weights and inputs in every call"),
    ("target", "auto", ("auto", "factory", "function"), "whether package.module:name gives the model or is what runs"),
    ("profile", False, (), "the CPU allocator's own events beside it; the profiler takes memory itself"),
)

RECURRENT = ("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")
# operators that are loops: in a timeline their steps are shown
MAKERS = ("factory", "model")
# what a Python file without a name behind it is asked for
EXAMPLES = ("example_inputs", "example_input_array", "dummy_inputs")
# attributes under which modules say what they take


class Runner:
    """Runs what `package.module:name`, a Python file, a `.pt2` file or a TorchScript file gives."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools
        self.path_of: dict[int, str] = {}
        # id of a module to its path
        self.runs = 0
        self.target: Any = None

    def start(self) -> None:
        import os

        chosen, tools = self.settings, self.tools
        if chosen["compiled"] and (chosen["jit"] != "off" or tools.timeline):
            other = "jit" if chosen["jit"] != "off" else "a timeline: fused operators are not seen one by one"
            raise tools.Unsupported(f"PyTorch: compiled does not go with {other}")
        for name in ("LD_PRELOAD", "PEAKMEM_COUNTER_LOG"):
            os.environ.pop(name, None)
            # this process has the counter; a compiler that it starts needs none
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = f"{tools.scratch}/inductor"
        try:
            import torch
        except ModuleNotFoundError as fault:
            raise tools.Missing(f"PyTorch is not installed: {fault}") from fault
        self.torch = torch
        torch.set_num_threads(chosen["threads"])
        if torch.get_num_interop_threads() != 1:
            torch.set_num_interop_threads(1)
        torch.backends.mkldnn.set_flags(chosen["mkldnn"])
        if tools.timeline:
            with self._following():
                torch.zeros(1).relu()
            # what following operators imports belongs to this phase
        if chosen["profile"]:
            self._profiled(lambda: torch.zeros(1))
        tools.fact("torch", torch.__version__)
        tools.fact("cpu capability", torch.backends.cpu.get_cpu_capability())

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        torch, chosen, tools = self.torch, self.settings, self.tools
        self.arrange: Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]
        target, ports = self._read(model)
        self.is_module = isinstance(target, torch.nn.Module)
        if self.is_module:
            if chosen["dtype"] != "as_built":
                target = target.to(getattr(torch, chosen["dtype"]))
            if chosen["channels_last"]:
                target = target.to(memory_format=torch.channels_last)
            stored = self._stored(target)
            tools.fact("parameter bytes", sum(storage.nbytes() for _, storage in stored))
            if tools.timeline:
                self._know(target, "")
                for name, storage in stored:
                    tools.note(f"stored\t{storage.data_ptr():x}\t{storage.nbytes()}\t{name}")
            del stored
        if chosen["jit"] != "off":
            target = self._scripted(target, ports)
        if chosen["compiled"]:
            target = torch.compile(target, dynamic=False)
        self.target = target
        return ports

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        torch, chosen = self.torch, self.settings
        tensors = []
        for name, shape, dtype, data in values:
            kind = getattr(torch, dtype, None)
            if not isinstance(kind, torch.dtype):
                raise self.tools.Unsupported(f"PyTorch has no dtype {dtype} (input {name})")
            tensor = torch.frombuffer(data, dtype=kind).reshape(shape) if data else torch.empty(shape, dtype=kind)
            if kind.is_floating_point and chosen["dtype"] != "as_built":
                tensor = tensor.to(getattr(torch, chosen["dtype"]))
            if chosen["channels_last"] and tensor.dim() == 4:
                tensor = tensor.contiguous(memory_format=torch.channels_last)
            if self.tools.timeline:
                storage = tensor.untyped_storage()
                self.tools.note(f"input\t{storage.data_ptr():x}\t{storage.nbytes()}\t{name}\t{_described(tensor)}")
            tensors.append(tensor)
        self.args, self.kwargs = self.arrange(tensors)

    def run(self) -> None:
        from contextlib import nullcontext

        torch, mode = self.torch, self.settings["mode"]
        self.runs += 1
        context = {"inference": torch.inference_mode, "no_grad": torch.no_grad, "grad": torch.enable_grad}[mode]
        try:
            with context(), self._following() if self.tools.timeline else nullcontext():
                if self.settings["profile"]:
                    peak, live = self._profiled(lambda: self.target(*self.args, **self.kwargs))
                    self.tools.fact(f"profiled peak bytes, run {self.runs}", peak)
                    self.tools.fact(f"profiled live bytes, run {self.runs}", live)
                else:
                    self.target(*self.args, **self.kwargs)
        except Exception as fault:
            if type(fault).__module__.startswith(("torch._inductor", "torch._dynamo")):
                raise self.tools.Unsupported(f"torch.compile cannot: {type(fault).__name__}: {fault}") from fault
            raise

    def release(self) -> None:
        import gc

        self.target = self.arrange = self.args = self.kwargs = None  # type: ignore[assignment]
        self.path_of.clear()
        if self.settings["compiled"]:
            self.torch._dynamo.reset()
        gc.collect()

    # reading

    def _read(self, model: str) -> tuple[Any, list[tuple[str, str, tuple[int, ...] | None]]]:
        """What runs and its inputs."""
        import zipfile
        from pathlib import Path

        if Path(model).is_file() and not model.endswith(".py"):
            if zipfile.is_zipfile(model):
                with zipfile.ZipFile(model) as archive:
                    names = [name.partition("/")[2] for name in archive.namelist()]
                if "constants.pkl" in names and any(name.startswith("code/") for name in names):
                    module = self.torch.jit.load(model, map_location="cpu").eval()
                    return module, self._ports(module, None)
                if "archive_format" in names or "serialized_exported_program.json" in names or model.endswith(".pt2"):
                    return self._exported(self.torch.export.load(model))
            raise self.tools.Unsupported(
                f"{Path(model).name} holds no network that runs: a program of torch.export, TorchScript, or the "
                "code that builds the network (package.module:factory) is needed"
            )
        if not model.endswith(".py") and ":" not in model:
            raise self.tools.Unsupported(f"there is no file {Path(model).name}")
        found, space = self._home(model)
        target = self._made(found, model)
        if type(target).__name__ == "ExportedProgram":
            return self._exported(target)
        if isinstance(target, self.torch.nn.Module):
            target.eval()
        return target, self._ports(target, space.get("INPUTS") if model.endswith(".py") else None)

    def _home(self, model: str) -> tuple[Any, dict[str, Any]]:
        """The object that `model` names, and the names beside it."""
        import importlib
        import importlib.util
        import os
        import site
        import sys
        from pathlib import Path

        site.main()
        # editable installs have finders of their own
        os.chdir(self.tools.folder)
        places = [number for number, entry in enumerate(sys.path) if entry.endswith("-packages")]
        sys.path.insert(places[0] if places else len(sys.path), self.tools.folder)
        # before what is installed and behind the standard library, so that a random.py there hides nothing
        name, attribute = (model, "") if model.endswith(".py") else model.rsplit(":", 1)
        if name.endswith(".py"):
            spec = importlib.util.spec_from_file_location("measured_model", name)
            if spec is None or spec.loader is None or not Path(name).is_file():
                raise self.tools.Unsupported(f"there is no Python file {Path(name).name}")
            module = importlib.util.module_from_spec(spec)
            sys.modules["measured_model"] = module
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(name)
        found: Any = module
        if not attribute:
            attribute = next((one for one in MAKERS if hasattr(module, one)), MAKERS[0])
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise self.tools.Unsupported(f"{Path(name).name} has no {attribute!r}")
            found = getattr(found, part)
        return found, vars(module)

    def _made(self, found: Any, model: str) -> Any:
        """What runs: `found` itself, or what it gives when it is called."""
        import inspect

        module, choice = self.torch.nn.Module, self.settings["target"]
        if isinstance(found, module) or type(found).__name__ == "ExportedProgram":
            return found
        if not callable(found):
            raise self.tools.Unsupported(f"{model} is a {type(found).__name__}: neither a module nor a function")
        if choice == "auto":
            takes = not inspect.isclass(found) and any(_required(one) for one in _parameters(found))
            choice = "function" if takes else "factory"
        if choice == "function":
            self.tools.fact("target", "the function itself")
            return found
        made = found()
        if isinstance(made, module) or type(made).__name__ == "ExportedProgram":
            return made
        if self.settings["target"] == "factory":
            raise self.tools.Unsupported(f"{model} gave a {type(made).__name__}, which is no module of PyTorch")
        self.tools.fact("target", "the function itself, called once while loading; --set pytorch.target=function spares that")  # fmt: skip  # noqa: E501
        return found

    def _ports(self, target: Any, told: Any) -> list[tuple[str, str, tuple[int, ...] | None]]:
        """Inputs of a module or a function: as the user said, as the file says, as the module itself says."""
        parameters = _parameters(getattr(target, "forward", target))
        free = [one.name for one in parameters if one.name not in {name for name, _, _ in self.tools.ports}]
        given = []
        for number, (name, dtype, shape) in enumerate(self.tools.ports):
            title = name or (free.pop(0) if free else f"input_{number}")
            given.append((title, dtype or self._floating(target), None if shape is None else tuple(shape)))
        if not given and told is not None:
            given = [(name, dtype, tuple(shape)) for name, dtype, shape in told]
        if not given:
            example = next((value for name in EXAMPLES if (value := getattr(target, name, None)) is not None), None)
            if callable(example):
                example = example()
            rows = example.items() if isinstance(example, dict) else enumerate(_listed(example))
            for key, tensor in rows:
                given.append((str(key), str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)))
        needed = ", ".join(one.name for one in parameters if _required(one))
        if not given and needed:
            raise self.tools.Unsupported(f"the sizes of its inputs are not known ({needed}): give --input")
        self.arrange = _arrangement([name for name, _, _ in given], parameters)
        return given

    def _floating(self, target: Any) -> str:
        """The dtype of a module's first floating parameter, float32 without one."""
        for tensor in target.parameters() if isinstance(target, self.torch.nn.Module) else ():
            if tensor.is_floating_point():
                return str(tensor.dtype).removeprefix("torch.")
        return "float32"

    def _exported(self, program: Any) -> tuple[Any, list[tuple[str, str, tuple[int, ...] | None]]]:
        """An exported program: its inputs stand in its signature, free dimensions as -1."""
        values = {node.name: node.meta.get("val") for node in program.graph.nodes if node.op == "placeholder"}
        ports: list[tuple[str, str, tuple[int, ...] | None]] = []
        fixed: list[Any] = []
        for spec in program.graph_signature.input_specs:
            if spec.kind.name != "USER_INPUT":
                continue
            value = values.get(spec.arg.name)
            if isinstance(value, self.torch.Tensor):
                shape = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
                ports.append((spec.arg.name, str(value.dtype).removeprefix("torch."), shape))
                fixed.append(ports)
                # marks a place
            elif hasattr(spec.arg, "value"):
                fixed.append(spec.arg.value)
            else:
                raise self.tools.Unsupported(f"input {spec.arg.name} of the exported program is no tensor")
        tree = program.call_spec.in_spec

        def arrange(tensors: list[Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            from torch.utils._pytree import tree_unflatten

            rest = iter(tensors)
            args, kwargs = tree_unflatten([next(rest) if one is ports else one for one in fixed], tree)
            return tuple(args), dict(kwargs)

        self.arrange = arrange
        return program.module(), ports

    def _scripted(self, target: Any, ports: list[tuple[str, str, tuple[int, ...] | None]]) -> Any:
        """`target` as frozen TorchScript."""
        torch, how = self.torch, self.settings["jit"]
        if not self.is_module:
            raise self.tools.Unsupported("jit is for modules, not for functions")
        if not isinstance(target, torch.jit.ScriptModule):
            if any(shape is None or -1 in shape for _, _, shape in ports):
                raise self.tools.Unsupported("jit traces the module and needs the sizes of its inputs: give --input")
            examples = []
            for _, dtype, shape in ports:
                kind = getattr(torch, dtype)
                if kind.is_floating_point and self.settings["dtype"] != "as_built":
                    kind = getattr(torch, self.settings["dtype"])
                examples.append(torch.zeros(shape, dtype=kind))
            args, kwargs = self.arrange(examples)
            with torch.no_grad():
                if kwargs:
                    target = torch.jit.trace(target, example_kwarg_inputs=kwargs, check_trace=False)
                else:
                    target = torch.jit.trace(target, args, check_trace=False)
        target = torch.jit.freeze(target.eval())
        return torch.jit.optimize_for_inference(target) if how == "optimize" else target

    # what the runtime says of itself

    def _stored(self, module: Any) -> list[tuple[str, Any]]:
        """Storages of parameters and buffers, each once, with the first name that leads there."""
        seen: dict[int, tuple[str, Any]] = {}
        for group in (module.named_parameters(), module.named_buffers()):
            for name, tensor in group:
                try:
                    storage = tensor.untyped_storage()
                    seen.setdefault(storage.data_ptr(), (name, storage))
                except (NotImplementedError, RuntimeError):
                    continue
                    # packed weights have no storage of their own
        return list(seen.values())

    def _profiled(self, work: Callable[[], Any]) -> tuple[int, int]:
        """Most and last bytes of the [memory] events of PyTorch's profiler, from the beginning of `work`."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
            work()
        events = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
        live = peak = 0
        for event in sorted(events, key=lambda event: int(event.start_ns())):
            live += event.nbytes()
            peak = max(peak, live)
        return peak, live

    # the timeline

    def _know(self, root: Any, home: str) -> None:
        """Remember the path of every module under `root`."""
        for path, module in root.named_modules():
            self.path_of.setdefault(id(module), ".".join(part for part in (home, path) if part))

    def _following(self) -> Any:
        """A context that notes each operator: begin, end, and the storages it gave."""
        from contextlib import contextmanager

        from torch.nn.modules import module as hooks
        from torch.utils._python_dispatch import TorchDispatchMode

        torch, note = self.torch, self.tools.note
        paths = [""]

        class Follower(TorchDispatchMode):  # type: ignore[misc]
            supports_higher_order_operators = True

            def __torch_dispatch__(
                self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
            ) -> Any:
                packet = str(getattr(func, "_overloadpacket", func))
                if packet in RECURRENT:
                    with self:
                        result = func.decompose(*args, **(kwargs or {}))
                    if result is not NotImplemented:
                        return result
                note(f"begin\t{packet}\t{paths[-1]}")
                result = func(*args, **(kwargs or {}))
                note("end")
                for tensor in _listed(result):
                    if isinstance(tensor, torch.Tensor) and tensor.layout is torch.strided:
                        storage = tensor.untyped_storage()
                        note(f"tensor\t{storage.data_ptr():x}\t{storage.nbytes()}\t{_described(tensor)}")
                return result

        def enter(part: Any, _given: Any) -> None:
            if id(part) not in self.path_of:
                self._know(part, ".".join((paths[-1], type(part).__name__)).lstrip("."))
            paths.append(self.path_of[id(part)])

        def leave(_part: Any, _given: Any, _result: Any) -> None:
            paths.pop()

        @contextmanager
        def following() -> Iterator[None]:
            entered = hooks.register_module_forward_pre_hook(enter)
            left = hooks.register_module_forward_hook(leave, always_call=True)
            try:
                with Follower():
                    yield
            finally:
                entered.remove()
                left.remove()

        return following()


def _described(tensor: Any) -> str:
    """Dtype and shape, as the fields of a note."""
    return f"{str(tensor.dtype).removeprefix('torch.')}\t{'x'.join(map(str, tensor.shape))}"


def _listed(value: Any) -> list[Any]:
    """What a value or a nest of lists, tuples and dictionaries holds; nothing for None."""
    if isinstance(value, list | tuple):
        return [one for part in value for one in _listed(part)]
    if isinstance(value, dict):
        return _listed(list(value.values()))
    return [] if value is None else [value]


def _parameters(function: Any) -> list[Any]:
    """What a function takes; nothing where that cannot be told."""
    import inspect

    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return []


def _required(parameter: Any) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD
    )  # fmt: skip


def _arrangement(
    names: list[str], parameters: list[Any]
) -> Callable[[list[Any]], tuple[tuple[Any, ...], dict[str, Any]]]:
    """How values of these names are handed over: by keyword where a parameter is called so, the others in order."""
    keywords = [one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    if not any(name in keywords for name in names):
        return lambda tensors: (tuple(tensors), {})
    free = [name for name in keywords if name not in names]
    places = [name if name in keywords else (free.pop(0) if free else name) for name in names]
    return lambda tensors: ((), dict(zip(places, tensors, strict=True)))
