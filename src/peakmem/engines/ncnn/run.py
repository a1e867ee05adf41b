"""One inference: blobs and workspace as ncnn asks for them and gives them back.

Source: `src/net.cpp` (NetPrivate::forward_layer, do_forward_layer, convert_layout; Extractor), `src/layer.cpp`, commit
a4d2ea1d (2026-07-22). What one type of layer does stands in `forward`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from peakmem.engines.ncnn import arm
from peakmem.engines.ncnn.heap import Heap
from peakmem.engines.ncnn.layers import ANY_PACKING, BF16, MAT, PACKED, STRUCTURES, Layer
from peakmem.engines.ncnn.load import PARAMETERS, WRAPPER, Made
from peakmem.engines.ncnn.mat import Mat, Shared, Sizes
from peakmem.engines.ncnn.options import Options
from peakmem.engines.ncnn.pools import Allocator, System
from peakmem.errors import GraphError
from peakmem.ir.dims import format_shape

EXTRACTOR = 392
# of an Extractor with its face in Python, without its list of blobs; measured


@dataclass(slots=True)
class Network:
    """What was loaded."""

    layers: tuple[Layer, ...]
    made: tuple[Made, ...]
    inputs: Mapping[str, Mat]
    outputs: tuple[str, ...]
    blobs: tuple[str, ...]
    # in the order of the file
    sizes: Mapping[str, Sizes]


@dataclass(slots=True)
class Call:
    """One layer at work: what its rule may ask for."""

    layer: Layer
    made: Made
    options: Options
    heap: Heap
    blob: Allocator
    work: Allocator
    sizes: Mapping[str, Sizes]
    # of blobs, in elements

    # -- matrices ------------------------------------------------------------------------

    def new(self, sizes: Sizes, scalar: int, pack: int, allocator: Allocator) -> Mat:
        """Mat::create."""
        mat = Mat(tuple(sizes), scalar, pack, None)
        if mat.nbytes:
            mat.memory = Shared(allocator.malloc(mat.nbytes), allocator)
        return mat

    def raw(self, *sizes: int, scalar: int = 4) -> Mat:
        """Workspace of these sizes, outermost first."""
        return self.new(sizes, scalar, 1, self.work)

    def top(self, position: int = 0) -> Sizes:
        """The sizes of a blob that the layer makes."""
        return self.sizes[self.layer.tops[position]]

    def packing(self, mat: Mat, pack: int, allocator: Allocator) -> Mat:
        """convert_packing: another number of elements side by side; the argument stays."""
        self.heap.burst(2 * WRAPPER + STRUCTURES["Packing"] + PARAMETERS)
        if mat.pack == pack or mat.sizes[0] % pack:
            return share(mat)
        if len(mat.sizes) == 1:
            return share(mat, pack=pack)
        held = WRAPPER + STRUCTURES["Packing"] + PARAMETERS
        self.heap.take("objects", held)
        made = self.new(mat.sizes, mat.scalar, pack, allocator)
        self.heap.take("objects", -held)
        return made

    def cast(self, mat: Mat, scalar: int, allocator: Allocator) -> Mat:
        """Another type of elements; the argument stays."""
        held = WRAPPER + STRUCTURES["Cast"] + PARAMETERS
        self.heap.take("objects", held)
        made = self.new(mat.sizes, scalar, mat.pack, allocator)
        self.heap.take("objects", -held)
        return made

    def border(self, mat: Mat, sizes: Sizes) -> Mat:
        """copy_make_border into workspace; the argument stays."""
        if tuple(sizes) == mat.sizes:
            self.heap.burst(WRAPPER + STRUCTURES["Padding"] + 2 * PARAMETERS)
            return share(mat)
        held = WRAPPER + STRUCTURES["Padding"] + PARAMETERS
        self.heap.take("objects", held)
        # while it is made: a cast of the value
        self.heap.burst(WRAPPER + STRUCTURES["Cast"] + 240 + PARAMETERS)
        made = self.new(sizes, mat.scalar, mat.pack, self.work)
        self.heap.team(self.options.threads)
        self.heap.take("objects", -held)
        return made

    def reshape(self, mat: Mat, sizes: Sizes, allocator: Allocator) -> Mat:
        """Mat::reshape: a view where the bytes lie as the new sizes want them, else a copy; the argument stays."""
        view = Mat(tuple(sizes), mat.scalar, mat.pack, mat.memory)
        if len(mat.sizes) < 3:
            fits = view.dense
        elif len(sizes) < 3:
            fits = mat.dense
        elif mat.sizes[0] != sizes[0]:
            flat = self.reshape(mat, (mat.count,), allocator)
            made = self.reshape(flat, sizes, allocator)
            release(flat)
            return made
        else:
            fits = True
        return share(view) if fits else self.new(sizes, mat.scalar, mat.pack, allocator)

    def team(self) -> None:
        """A loop for several threads."""
        self.heap.team(self.options.threads)


def share(mat: Mat, **changed: int) -> Mat:
    """Another matrix of the same memory."""
    if mat.memory is not None:
        mat.memory.references += 1
    return Mat(mat.sizes, changed.get("scalar", mat.scalar), changed.get("pack", mat.pack), mat.memory)


def release(mat: Mat | None) -> None:
    """The matrix lets go of its memory."""
    if mat is None or mat.memory is None:
        return
    memory, mat.memory = mat.memory, None
    memory.references -= 1
    if memory.references == 0 and memory.allocator is not None and memory.block is not None:
        memory.allocator.free(memory.block)


Forward = Callable[[Call, Sequence[Mat]], list[Mat]]
# what a layer makes of its bottoms, which stay


@dataclass(slots=True)
class Extractor:
    """Net::create_extractor, input, extract, and its end."""

    network: Network
    options: Options
    heap: Heap
    blob: Allocator
    work: Allocator
    forward: Callable[[Layer], Forward]
    beside: Callable[[Layer], Callable[[Call, Mat], None]]
    # workspace of a layer that works in place
    producers: dict[str, int] = field(default_factory=dict)
    mats: dict[str, Mat] = field(default_factory=dict)

    def run(self) -> None:
        """One inference; results are dropped as the runner drops them."""
        network = self.network
        self.producers = {top: at for at, layer in enumerate(network.layers) for top in layer.tops}
        lists = EXTRACTOR + MAT * len(network.blobs)
        self.heap.burst(2 * lists)
        self.heap.take("objects", lists)
        for name, mat in network.inputs.items():
            self.mats[name] = share(mat)
        results = []
        for name in network.outputs:
            self._reach(name)
            results.append(self._extract(name))
        for mat in results:
            release(mat)
        for name in network.blobs:
            release(self.mats.pop(name, None))
        self.mats.clear()
        self.heap.take("objects", -lists)

    def _reach(self, target: str) -> None:
        """forward_layer: the layers that a blob needs, the first input first."""
        stack = [target]
        while stack:
            name = stack[-1]
            if name in self.mats:
                stack.pop()
                continue
            if name not in self.producers:
                # an input: light mode gave it back after its first reader
                raise GraphError("ncnn needs a Split where two layers read one input", where=f"blob {name!r}")
            layer = self.network.layers[self.producers[name]]
            ahead = next((bottom for bottom in layer.bottoms if bottom not in self.mats), None)
            if ahead is not None:
                stack.append(ahead)
                continue
            self.heap.step = layer.title
            self._layer(layer, self.network.made[self.producers[name]])

    def _extract(self, name: str) -> Mat:
        """Extractor::extract of type 0: unpacked, in single precision, and not of the network's own pool."""
        self.heap.step = f"output {name}"
        call = self._call(Layer(name, "extract", (), (), {}, ()), Made())
        mat = share(self.mats[name])
        if mat.memory is not None and mat.memory.block is not None and mat.memory.block.category == "state":
            return mat
            # a cache says that it packs 0 elements, so that it is neither unpacked nor cast
        if self.options.packing and mat.pack != 1:
            mat = self._exchanged(mat, call.packing(mat, 1, self.blob))
        if mat.scalar == (2 if self.options.bf16_storage else 1):
            mat = self._exchanged(mat, call.cast(mat, 4, self.blob))
            # int8 is left as it is where blobs may be bf16
        if mat.memory is not None and mat.memory.allocator is self.blob and self.blob.pooled:
            copy = call.new(mat.sizes, mat.scalar, mat.pack, System(self.heap, "inputs and outputs"))
            mat = self._exchanged(mat, copy)
        return mat

    @staticmethod
    def _exchanged(old: Mat, new: Mat) -> Mat:
        release(old)
        return new

    def _call(self, layer: Layer, made: Made) -> Call:
        options = self.options
        if options.arithmetic and layer.type not in arm.SHORT:
            options = replace(options, widest=4)
            # floats, four side by side
        return Call(layer, made, options, self.heap, self.blob, self.work, self.network.sizes)

    def _layer(self, layer: Layer, made: Made) -> None:
        """do_forward_layer."""
        call = self._call(layer, made)
        lists = MAT * (len(layer.bottoms) + len(layer.tops)) if layer.several else 0
        self.heap.take("objects", lists)
        bottoms = []
        for name in layer.bottoms:
            held = self.mats[name]
            if self.options.light and layer.inplace and held.memory is not None and held.memory.references != 1:
                mat = call.new(held.sizes, held.scalar, held.pack, self.blob)
                # a copy, because others read it
            else:
                mat = share(held)
            bottoms.append(self._converted(call, mat))
        try:
            tops = self._in_place(call, bottoms) if layer.inplace else self.forward(layer)(call, bottoms)
        except (IndexError, KeyError, ValueError, ZeroDivisionError) as fault:
            shown = ", ".join(format_shape(mat.sizes) for mat in bottoms)
            raise GraphError(f"ncnn would not compute it on {shown}", where=layer.title) from fault
            # a rule unpacks the axes and parameters that its layer has to have
        if len(tops) != len(layer.tops):
            raise GraphError(f"{layer.type} makes {len(tops)} blobs, not {len(layer.tops)}", where=layer.title)
        for name, mat in zip(layer.tops, tops, strict=True):
            release(self.mats.get(name))
            self.mats[name] = mat
        if self.options.light:
            for name in layer.bottoms:
                release(self.mats.pop(name, None))
        for mat in bottoms:
            release(mat)
        call.team()
        # nearly all compute in one, and those that do not are seldom alone
        self.heap.take("objects", -lists)

    def _in_place(self, call: Call, bottoms: list[Mat]) -> list[Mat]:
        """forward_inplace; without light mode on a copy (Layer::forward)."""
        tops = []
        for mat in bottoms[: len(call.layer.tops)]:
            if self.options.light:
                tops.append(share(mat))
            else:
                tops.append(call.new(mat.sizes, mat.scalar, mat.pack, self.blob))
            self.beside(call.layer)(call, tops[-1])
        return tops

    def _converted(self, call: Call, mat: Mat) -> Mat:
        """convert_layout: the type and the packing that the layer wants."""
        options, kind = self.options, call.layer.type
        if not mat.nbytes:
            return mat
        shorts = arm.SHORT if options.arm else BF16
        short = options.bf16_storage and kind in shorts and not _floats_alone(call.layer)
        if mat.scalar == 4 and short:
            mat = self._exchanged(mat, call.cast(mat, 2, self.blob))
        pack = 1
        if options.packing:
            outer = mat.sizes[0]
            if accepts_packed(call.layer, options):
                if options.arm and mat.scalar == 4:
                    pack = 4 if outer % 4 == 0 else 1
                elif mat.scalar in (2, 4):
                    pack = options.pack(outer)
                elif mat.scalar == 1:
                    pack = 8 if outer % 8 == 0 else 1
                if kind in ANY_PACKING and not options.arm:
                    pack = mat.pack
        if mat.pack != pack:
            mat = self._exchanged(mat, call.packing(mat, pack, self.blob))
        if mat.scalar == 2 and options.bf16_storage and not short:
            mat = self._exchanged(mat, call.cast(mat, 4, self.blob))
        return mat


def _floats_alone(layer: Layer) -> bool:
    """Layers that do without bf16 in one way of theirs: adaptive pooling, products with int8 weights."""
    if layer.type == "Pooling":
        return bool(layer.values.get("adaptive_pooling"))
    if layer.block_bits == 8:
        return False
    return layer.type in ("Gemm", "MultiHeadAttention", "SDPA") and bool(
        layer.values.get("quantize_term") or layer.values.get("int8_scale_term")
    )


def accepts_packed(layer: Layer, options: Options) -> bool:
    """Whether a layer accepts packed blobs; adaptive pooling does not (Pooling_x86::create_pipeline)."""
    if layer.block_bits in (4, 6) or (layer.type == "MultiHeadAttention" and layer.int8):
        return False
    return layer.type in (arm.PACKED if options.arm else PACKED) and not (
        layer.type == "Pooling" and layer.values.get("adaptive_pooling")
    )
