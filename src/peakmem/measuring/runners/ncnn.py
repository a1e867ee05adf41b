"""ncnn, through its Python binding; needs no numpy, so that the process stays small.

Names and defaults of options as in ncnn's `src/option.h` and `option.cpp`; what only its source tells stands beside the
line that relies on it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

NAME = "ncnn"
EXTRA = "ncnn"
DISTRIBUTIONS = ("ncnn", "pnnx")
READS = ("ncnn",)
ENVIRONMENT: dict[str, str] = {}
SETTINGS = (
    ("lightmode", True, (), "free a blob after its last reader, and weights once they are repacked"),
    ("fp16_packed", True, (), "fp16 side by side in one register, on graphics processors"),
    ("fp16_storage", True, (), "weights in fp16 (x86: of inner products; Arm: blobs too) where the processor converts"),
    ("fp16_arithmetic", True, (), "compute in fp16 where the processor can; off without fp16_storage"),
    ("bf16_packed", False, (), "bf16 side by side in one register, on graphics processors"),
    ("bf16_storage", False, (), "weights and blobs in bf16"),
    ("int8_inference", True, (), "run operators with int8 weights in int8; of a float model nothing changes"),
    ("int8_packed", True, (), "int8 side by side in one register, on graphics processors"),
    ("int8_storage", True, (), "int8 blobs, on graphics processors"),
    ("int8_arithmetic", True, (), "compute in int8, on graphics processors"),
    ("winograd", True, (), "3x3 convolutions through transformed weights, up to 7.1 times their size, and tiles"),
    ("winograd23", True, (), "its tiles of 2x2: weights 16/9 of their size"),
    ("winograd43", True, (), "its tiles of 4x4: weights 36/9 of their size"),
    ("winograd63", True, (), "its tiles of 6x6: weights 64/9 of their size"),
    ("sgemm", True, (), "convolution as a product of matrices: repacked weights and tiles of the input"),
    ("packing", True, (), "4, 8 or 16 channels side by side; copies where a layer wants another layout"),
    ("pool_allocator", True, (), "blobs and workspace from pools that keep what comes back; off asks malloc each time"),
    ("mapped_model", False, (), "map the .bin instead of reading it; weights that are not repacked stay in the file"),
    ("record_allocators", "off", ("off", "pool", "direct"), "tell each request for blobs and workspace, served by pools or by malloc"),  # noqa: E501
    ("batch_axis", "drop", ("drop", "keep"), "an input's leading 1, where no file states its shape: no batch in blobs"),
)  # fmt: skip

OPTIONS = {
    "lightmode": "lightmode",
    **{name: "use_" + name for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic")},
    **{name: "use_" + name for name in ("bf16_packed", "bf16_storage")},
    **{name: "use_" + name for name in ("int8_inference", "int8_packed", "int8_storage", "int8_arithmetic")},
    **{name: f"use_{name}_convolution" for name in ("winograd", "winograd23", "winograd43", "winograd63", "sgemm")},
    "packing": "use_packing_layout",
}
# a setting and the field of ncnn.Option that it sets

UNBOUND = {
    "pool_allocator": ("use_local_pool_allocator", True, -3),
    "mapped_model": ("use_mapped_model_loading", False, -4),
}
# a setting, the field of Option that the binding does not show, its default, and where it stands seen from
# use_winograd23_convolution (option.h)
AROUND = (3, 0, 0, 0, 1, 1, 1)
# what stands before it by default: flush_denormals, two reserved, mapped, pool, two for graphics

NO_MEMORY = -100
# what ncnn returns for a matrix that it could not allocate
EVENTS_TOLD = 900_000
# characters of one fact

FOLLOWED = ("Split", "Reshape", "Flatten", "Squeeze", "ExpandDims", "Permute", "Noop", "Dropout", "Slice", "Crop")
# layers through which an index stays one on its way to Embed


class Runner:
    """Loads a .param (text) or .param.bin (binary) and the .bin beside it; without a .bin all weights are zero."""

    def __init__(self, settings: dict[str, Any], tools: Any) -> None:
        self.settings = settings
        self.tools = tools

    def start(self) -> None:
        import ncnn

        self.ncnn: Any = ncnn
        self.recorder: Any = None
        self.pools: Any = None
        chosen = self.settings
        recorded = chosen["record_allocators"]
        if recorded != "off" and chosen["threads"] != 1:
            # the trampolines of the binding wait for the interpreter's lock, which the computing thread holds
            raise self.tools.Unsupported(
                "record_allocators needs threads=1: a second thread that allocates waits for ever"
            )
        if recorded == "pool" and not chosen["pool_allocator"]:
            raise self.tools.Unsupported("record_allocators=pool needs pool_allocator=on; without pools it is direct")

    def load(self, model: str) -> list[tuple[str, str, tuple[int, ...] | None]]:
        import os

        ncnn, tools = self.ncnn, self.tools
        self.net = net = ncnn.Net()
        self._choose(net.opt)
        binary = model.endswith(".param.bin")
        if not os.path.isfile(model):
            raise tools.Unsupported(f"there is no file {os.path.basename(model)}")
        if (net.load_param_bin if binary else net.load_param)(model) != 0:
            raise tools.Unsupported(f"ncnn cannot read {os.path.basename(model)}{self._said()}")
        weights = model.removesuffix(".bin").removesuffix(".param") + ".bin"
        if os.path.isfile(weights):
            tools.fact("weights", f"{os.path.getsize(weights)} B in {os.path.basename(weights)}")
            code = net.load_model(weights)
        else:
            tools.fact("weights", "all zero, there is no .bin")
            code = net.load_model(ncnn.DataReaderFromEmpty())
        if code != 0:
            said = self._said()
            if code == NO_MEMORY or ("load_model" in said and "ModelBin" not in said):
                # a layer that lacks memory for its weights says no more than that it failed
                raise MemoryError(f"ncnn could not allocate the weights (code {code}){said}")
            raise tools.Unsupported(f"ncnn cannot load the weights (code {code}){said}")
        layers, blobs = net.layers(), net.blobs()
        self.inputs_at = list(net.input_indexes())
        self.outputs_at = list(net.output_indexes())
        if not self.outputs_at:
            raise tools.Unsupported("the network has no output: every blob has a reader")
        names = [blobs[index].name or f"blob{index}" for index in self.inputs_at]
        self.order = self._order(layers, blobs) if tools.timeline and self.settings["threads"] == 1 else []
        sizes = {} if binary else input_sizes(model)
        sizes |= {name: tuple(shape) for name, _, shape in tools.ports if shape is not None and name not in sizes}
        # what the conversion has found out: which dimension pnnx takes for the batch is nowhere in its files
        ports: list[tuple[str, str, tuple[int, ...] | None]] = []
        for name, index in zip(names, self.inputs_at, strict=True):
            hint = blobs[index].shape
            shape = (hint.c, hint.d, hint.h, hint.w)[4 - hint.dims :] if hint.dims else sizes.get(name)
            if hint.dims == 3:
                shape = (hint.c, hint.h, hint.w)
            ports.append((name, "int32" if self._holds_indices(index, layers) else "float32", shape))
        self.shapes = [shape for _, _, shape in ports]
        tools.fact("layers", len(layers))
        tools.fact("outputs", " ".join(blobs[index].name or f"blob{index}" for index in self.outputs_at))
        tools.fact(
            "processors", f"{ncnn.get_physical_big_cpu_count()} big, {ncnn.get_physical_little_cpu_count()} little"
        )
        # tiles of products of matrices depend on them and on the cache of level 2
        return ports

    def _choose(self, option: Any) -> None:
        """Write every setting into `option`."""
        option.num_threads = self.settings["threads"]
        for name, field in OPTIONS.items():
            if hasattr(option, field):
                setattr(option, field, self.settings[name])
            elif self.settings[name] != next(row[1] for row in SETTINGS if row[0] == name):
                raise self.tools.Unsupported(f"this ncnn has no option {field}")
        for name, (field, default, offset) in UNBOUND.items():
            if self.settings[name] == default:
                continue
            place = place_of_winograd23(self.ncnn)
            if place is None:
                raise self.tools.Unsupported(f"{field} is not bound and its place in this ncnn's Option is not known")
            inside(option)[place + offset] = int(self.settings[name])

    def _said(self) -> str:
        """What ncnn wrote, as the end of a sentence."""
        lines = [line.strip() for line in self.tools.output().splitlines() if line.strip()]
        return ": " + "; ".join(lines[-3:]) if lines else ""

    @staticmethod
    def _holds_indices(blob: int, layers: Any) -> bool:
        """Whether `blob` reaches an Embed as its indices."""
        reach, at = [blob], 0
        while at < len(reach):
            for layer in layers:
                if reach[at] in layer.bottoms:
                    if layer.type == "Embed":
                        return True
                    if layer.type in FOLLOWED:
                        reach += [top for top in layer.tops if top not in reach]
            at += 1
        return False

    def _order(self, layers: Any, blobs: Any) -> list[tuple[str, int]]:
        """Layers in the order in which ncnn computes them, each as a note that begins it, with one blob it makes.

        ncnn goes from an output to the layers before it, the first input first (Net::forward_layer).
        """
        done = set(self.inputs_at)
        order: list[tuple[str, int]] = []
        for output in self.outputs_at:
            stack = [output]
            while stack:
                blob = stack[-1]
                if blob in done:
                    stack.pop()
                    continue
                layer = layers[blobs[blob].producer]
                ahead = [bottom for bottom in layer.bottoms if bottom not in done]
                if ahead:
                    stack.append(ahead[0])
                    continue
                done.update(layer.tops)
                order.append((f"begin\t{layer.type or layer.typeindex}\t{layer.name or 'layer'}", blob))
        return order

    def feed(self, values: list[tuple[str, tuple[int, ...], str, bytearray]]) -> None:
        self.inputs: Any = []
        for index, known, (name, shape, dtype, data) in zip(self.inputs_at, self.shapes, values, strict=True):
            dims = tuple(shape)
            leading = len(dims) > 1 and dims[0] == 1 and (known is None or len(known) < len(dims))
            if leading and self.settings["batch_axis"] == "drop":
                dims = dims[1:]
            if not 1 <= len(dims) <= 4 or 0 in dims:
                raise self.tools.Unsupported(
                    f"input {name} of shape {dims}: a matrix of ncnn has 1 to 4 dimensions, none of 0"
                )
            self.inputs.append((index, self._mat(name, dims, dtype, memoryview(data))))
        # numbered, because a binary .param has no names
        if self.settings["record_allocators"] != "off":
            self.recorder = Recorder(self.ncnn, keep=self.settings["record_allocators"] == "pool")
            self.pools = self.recorder.blob, self.recorder.workspace
        elif self.order and self.settings["pool_allocator"]:
            # the same pools, but not the network's own: what extract returns of those it copies
            self.pools = self.ncnn.PoolAllocator(), self.ncnn.PoolAllocator()

    def _mat(self, name: str, dims: tuple[int, ...], dtype: str, data: memoryview) -> Any:
        """A matrix of ncnn's own with `data` in it: aligned, channels padded to 16 bytes, readable past its end."""
        if dtype == "int64":
            from array import array

            data = memoryview(array("i", data.cast("q")))
        elif dtype not in ("float32", "int32"):
            raise self.tools.Unsupported(f"input {name} is {dtype}; ncnn takes float32, and int32 for indices")
        mat = self.ncnn.Mat(*reversed(dims))
        data = data.cast("B")
        if len(dims) < 3:
            memoryview(mat).cast("B")[:] = data
            return mat
        size = len(data) // dims[0]
        for channel in range(dims[0]):
            memoryview(mat.channel(channel)).cast("B")[:] = data[channel * size : (channel + 1) * size]
        return mat

    def run(self) -> None:
        extractor = self.net.create_extractor()
        if self.pools is not None:
            # on the extractor, not on the network, whose repacked weights would come from them too
            extractor.set_blob_allocator(self.pools[0])
            extractor.set_workspace_allocator(self.pools[1])
        if self.recorder is not None:
            self.recorder.begin()
        for index, mat in self.inputs:
            extractor.input(index, mat)
        note = self.tools.note
        for name, blob in self.order:
            note(name)
            between = self.ncnn.Mat()
            self._extract(extractor, blob, between, 1)
            # as it is, not repacked; and forgotten at once
            del between
        if self.order:
            note("outputs")
        outputs = []
        for blob in self.outputs_at:
            outputs.append(self.ncnn.Mat())
            self._extract(extractor, blob, outputs[-1], 0)
        del outputs, extractor

    def _extract(self, extractor: Any, blob: int, mat: Any, kind: int) -> None:
        code = extractor.extract(blob, mat, kind)
        if code == NO_MEMORY:
            raise MemoryError(f"ncnn could not allocate a blob (code {code}{self._said()})")
        if code != 0:
            raise self.tools.Unsupported(f"ncnn cannot compute the network (code {code}){self._said()}")

    def release(self) -> None:
        if self.recorder is not None:
            for name, value in self.recorder.facts():
                self.tools.fact(name, value)
        self.inputs = None
        self.net.clear()
        self.net = self.pools = self.recorder = None


class Recorder:
    """Two allocators that note each request and each return.

    Both are pools of ncnn's: where nothing is kept, what comes back goes on to the system at once, so that each request
    becomes one of the process, as ncnn itself would make it.
    """

    def __init__(self, ncnn: Any, *, keep: bool) -> None:
        import ctypes

        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype = ctypes.c_void_p
        pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
        recorder = self
        self.runs: list[tuple[list[str], dict[str, int], dict[str, int]]] = []
        self.requests = 0

        class Allocator(ncnn.PoolAllocator):  # type: ignore[misc]
            def __init__(self, sign: str) -> None:
                super().__init__()
                self.sign = sign
                self.out: dict[int, tuple[int, int, int]] = {}
                # address: number of the request, its size, size of its block
                self.held: list[tuple[int, int]] = []
                # size and address of kept blocks, the oldest first
                self.most_held = 0

            def fastMalloc(self, size: int) -> Any:  # noqa: N802
                block = super().fastMalloc(size)
                if block is None:
                    return None
                recorder.requests += 1
                address = pointer(block, None)
                self.out[address] = (recorder.requests, size, self.taken(size))
                recorder.take(self.sign, size)
                return block

            def taken(self, size: int) -> int:
                """The size of the block that serves `size`, by the rule of PoolAllocator::fastMalloc.

                The first kept block that is large enough; else a new one, and of ten kept the smallest goes.
                """
                for at, (held, _) in enumerate(self.held):
                    if held >= size:
                        del self.held[at]
                        return held
                if len(self.held) >= 10:
                    self.held.remove(min(self.held, key=lambda block: block[0]))
                total = size + sum(held for held, _ in self.held) + sum(block for _, _, block in self.out.values())
                self.most_held = max(self.most_held, total)
                return size

            def fastFree(self, block: Any) -> None:  # noqa: N802
                address = pointer(block, None)
                number, size, whole = self.out.pop(address)
                super().fastFree(block)
                if keep:
                    self.held.append((whole, address))
                else:
                    self.clear()
                recorder.give(self.sign, size, number)

        self.blob, self.workspace = Allocator("b"), Allocator("w")
        self.keep = keep

    def begin(self) -> None:
        """The next run begins."""
        before = self.runs[-1][1] if self.runs else {"b": 0, "w": 0, "bw": 0}
        self.runs.append(([], dict(before), dict(before)))

    def take(self, sign: str, size: int) -> None:
        """`size` bytes were asked for."""
        events, live, peak = self.runs[-1]
        events.append(f"{sign}{size}")
        for part in (sign, "bw"):
            live[part] += size
            peak[part] = max(peak[part], live[part])

    def give(self, sign: str, size: int, number: int) -> None:
        """What request `number` got came back."""
        events, live, _ = self.runs[-1]
        events.append(f"-{number}")
        for part in (sign, "bw"):
            live[part] -= size

    def facts(self) -> list[tuple[str, str]]:
        """What was noted, by run: peaks in bytes as requested, and the events.

        `b602116` and `w4990472` are requests for a blob and for workspace, numbered from 1 through all runs; `-3` gives
        back what the third one got.
        """
        told = []
        for at, (events, _, peak) in enumerate(self.runs, 1):
            asked = sum(event[0] in "bw" for event in events)
            told.append((f"requests run {at}", str(asked)))
            told += [(f"{name} peak run {at}", str(peak[part])) for name, part in
                     (("blob", "b"), ("workspace", "w"), ("blob and workspace", "bw"))]  # fmt: skip
            text = " ".join(events)
            told.append(
                (f"events run {at}", text if len(text) < EVENTS_TOLD else f"{len(events)} events, too many to tell")
            )
        if self.keep:
            told += [
                ("blob pool held", str(self.blob.most_held)),
                ("workspace pool held", str(self.workspace.most_held)),
            ]
        return told


def inside(option: Any) -> Any:
    """The bytes of the C++ object behind `option`, an instance of pybind11's simple layout."""
    import ctypes

    address = ctypes.c_void_p.from_address(id(option) + object.__basicsize__).value
    assert address is not None
    return (ctypes.c_ubyte * 120).from_address(address)


def place_of_winograd23(ncnn: Any) -> int | None:
    """Where use_winograd23_convolution stands in an Option; None where what surrounds it is not what option.h says."""
    option = ncnn.Option()
    data = inside(option)
    before = bytes(data)
    option.use_winograd23_convolution = not option.use_winograd23_convolution
    changed = [at for at, (old, new) in enumerate(zip(before, bytes(data), strict=True)) if old != new]
    if len(changed) != 1 or changed[0] < len(AROUND):
        return None
    place = changed[0]
    return place if tuple(before[place - len(AROUND) : place]) == AROUND else None


def input_sizes(model: str) -> dict[str, tuple[int, ...]]:
    """Shapes that the Input layers of a .param state (0=width 1=height 11=depth 2=channels), outermost first."""
    sizes = {}
    with open(model, encoding="utf-8", errors="replace") as file:
        for line in file:
            words = line.split()
            if len(words) < 5 or words[0] != "Input":
                continue
            stated = dict(word.split("=", 1) for word in words[5:] if "=" in word)
            shape = [stated[key] for key in ("2", "11", "1", "0") if key in stated]
            if shape and all(dim.isdigit() and int(dim) > 0 for dim in shape):
                sizes[words[4]] = tuple(map(int, shape))
    return sizes
