"""The layout pass: convolutions and pools in blocks of channels (NCHWc), with weights reordered and padded.

onnxruntime/core/optimizer/nchwc_transformer.cc, and as 1.31.1 writes it: input channels in multiples of 4 are padded
to whole blocks, as are output channels and biases. The block is 16 floats with AVX-512, 8 with AVX and FMA
(MlasNchwcGetBlockSize, onnxruntime/core/mlas/lib/platform.cpp).
"""

from __future__ import annotations

from dataclasses import dataclass

from peakmem.engines.onnxruntime.network import MICROSOFT, NCHWC, Growth, Network, Node, Value

CHANNEL_ALIGNMENT = 4
FUSED = ("Relu", "Sigmoid", "Tanh")
# activations that go into a convolution here; others were fused before
KEPT = ("Relu", "Sigmoid", "Tanh")
ONLY_KEPT = (("QuickGelu", MICROSOFT), ("Gelu", MICROSOFT))
# elementwise on blocks, never fused


@dataclass(slots=True)
class _Blocked:
    """A value that exists in blocks."""

    node: Node
    # that makes it
    name: str
    channels: int
    # before padding
    uses: int
    left: int
    # uses of the value in its original layout
    shape: tuple[int, ...]
    # original


def up(channels: int, block: int) -> int:
    """To whole blocks."""
    return -(-channels // block) * block


def transform(network: Network, block: int) -> None:
    """Rewrite `network` in place."""
    _Transformer(network, block).run()


class _Transformer:
    def __init__(self, network: Network, block: int) -> None:
        self.network = network
        self.block = block
        self.blocked: dict[str, _Blocked] = {}
        self.gone: list[Node] = []
        self.reordered: dict[str, str] = {}
        self.filters: dict[tuple[str, bool], str] = {}
        self.biases: dict[str, str] = {}

    def run(self) -> None:
        for node in self.network.order():
            self.reads = self.network.reads()
            self._visit(node)
        for name, entry in self.blocked.items():
            if entry.left > 0:
                self.network.add(
                    "ReorderOutput", [entry.name], [name], NCHWC, {"channels": entry.channels}, f"reorder of {name}"
                )
        for node in self.gone:
            self.network.remove(node)

    def _visit(self, node: Node) -> None:
        if any(name and name not in self.network.values for name in (*node.inputs, *node.outputs)):
            return
        if node.is_op("Conv") or node.is_op("FusedConv", domain=MICROSOFT):
            self._conv(node)
            return
        if node.is_op("MaxPool", "AveragePool"):
            self._pool(node)
            return
        data = [name for name in node.inputs if name]
        if not data or any(name not in self.blocked for name in data[:1]):
            return
        if node.is_op("Add", "Sum", "Mul"):
            self._binary(node)
        elif node.is_op("Concat"):
            self._concat(node)
        elif node.is_op(*KEPT) or (node.op_type, node.domain) in ONLY_KEPT:
            self._activation(node)
        elif node.is_op("BatchNormalization"):
            self._normalisation(node)
        elif node.is_op("Transpose") and tuple(node.attributes.get("perm", ())) == (0, 2, 3, 1):
            entry = self._use(node.inputs[0])
            attributes = {"channels": entry.channels, "channels_last": 1}
            self.network.add("ReorderOutput", [entry.name], node.outputs, NCHWC, attributes, node.name)
            self.gone.append(node)
        elif node.is_op("Upsample", "Resize"):
            self._resize(node)
        elif node.is_op("GlobalMaxPool", "GlobalAveragePool"):
            self._pool(node)

    def _use(self, name: str) -> _Blocked:
        entry = self.blocked[name]
        entry.left -= 1
        return entry

    def _enter(self, original: str, node: Node, channels: int, *, fused: _Blocked | None = None) -> None:
        """`original` exists in blocks now, made by `node`."""
        shape = self.network.values[original].shape
        uses = self.reads.get(original, 0)
        if fused is not None:
            name = fused.name
        else:
            padded = (shape[0], up(channels, self.block), *shape[2:])
            name = self.network.new_value("blocked", padded, self.network.values[original]).name
            node.outputs = [name]
        self.blocked[original] = _Blocked(node, name, channels, uses, uses, shape)

    def _input(self, name: str) -> str:
        """`name` in blocks, by a new node where nothing made it so."""
        if name in self.blocked:
            return self._use(name).name
        if name not in self.reordered:
            value = self.network.values[name]
            padded = (value.shape[0], up(value.shape[1], self.block), *value.shape[2:])
            made = self.network.new_value("blocked", padded, value)
            self.network.add("ReorderInput", [name], [made.name], NCHWC, name=f"reorder of {name}")
            self.reordered[name] = made.name
        return self.reordered[name]

    def _conv(self, node: Node) -> None:
        network, block = self.network, self.block
        weight = network.weight(node.inputs[1])
        value = network.values.get(node.outputs[0])
        if weight is None or value is None or not weight.is_float or len(weight.shape) != 4 or len(node.inputs) > 3:
            return
        outputs, inputs, *kernel = weight.shape
        groups = int(node.attributes.get("group", 1))
        padded_inputs, reorder, depthwise_order = inputs, True, False
        if groups > 1:
            if outputs % CHANNEL_ALIGNMENT:
                return
            if inputs == 1 and outputs == groups:
                depthwise_order = True
            elif inputs % block or outputs % groups or outputs // groups % block:
                return
        elif inputs < block:
            reorder, depthwise_order = False, True
        elif inputs % CHANNEL_ALIGNMENT:
            return
        else:
            padded_inputs = up(inputs, block)
        bias = network.weight(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else None
        if len(node.inputs) > 2 and node.inputs[2] and (bias is None or bias.shape != (outputs,)):
            return
        key = (node.inputs[1], depthwise_order)
        if key not in self.filters:
            made = network.new_value("reorder", (up(outputs, block), padded_inputs, *kernel), weight, constant=True)
            network.grown.append(Growth("layout", weight.nbytes, made.nbytes, node.name))
            self.filters[key] = made.name
        names = [node.inputs[0], self.filters[key]]
        if bias is not None:
            names.append(self._bias(bias))
        blocked = self._input(node.inputs[0]) if reorder else node.inputs[0]
        names[0] = blocked
        if not reorder and node.inputs[0] in self.blocked:
            names[0] = node.inputs[0]
            # fewer channels than a block: reads the original layout, which a node makes at the end
        made_node = network.add("Conv", names, [*node.outputs], NCHWC, node.attributes, node.name)
        made_node.activation = node.activation
        self._enter(node.outputs[0], made_node, outputs)
        self.gone.append(node)

    def _bias(self, bias: Value) -> str:
        if bias.count % self.block == 0:
            return bias.name
        if bias.name not in self.biases:
            made = self.network.new_value("reorder", (up(bias.count, self.block),), bias, constant=True)
            self.network.grown.append(Growth("layout", bias.nbytes, made.nbytes, bias.name))
            self.biases[bias.name] = made.name
        return self.biases[bias.name]

    def _pool(self, node: Node) -> None:
        value = self.network.values.get(node.inputs[0])
        if len([name for name in node.outputs if name]) > 1 or value is None or not value.is_float:
            return
        if len(value.shape) != 4 or value.shape[1] % self.block:
            return
        made = self.network.add(
            node.op_type, [self._input(node.inputs[0])], [*node.outputs], NCHWC, node.attributes, node.name
        )
        self._enter(node.outputs[0], made, value.shape[1])
        self.gone.append(node)

    def _binary(self, node: Node) -> None:
        if any(name not in self.blocked for name in node.inputs):
            return
        entries = [self.blocked[name] for name in node.inputs]
        if any(entry.shape != entries[0].shape for entry in entries):
            return
        for entry in entries:
            entry.left -= 1
        if node.op_type != "Mul" and len(entries) == 2:
            for entry, other in (entries, entries[::-1]):
                maker = entry.node
                if (
                    maker.is_op("Conv", domain=NCHWC) and len(maker.inputs) < 4 and entry.uses == 1
                    and not maker.activation
                ):  # fmt: skip
                    maker.inputs = [*[*maker.inputs, "", ""][:3], other.name]
                    self._enter(node.outputs[0], maker, entry.channels, fused=entry)
                    self.gone.append(node)
                    return
        node.inputs = [entry.name for entry in entries]
        self._enter(node.outputs[0], node, entries[0].channels)

    def _concat(self, node: Node) -> None:
        if int(node.attributes.get("axis", 0)) != 1 or any(name not in self.blocked for name in node.inputs):
            return
        entries = [self.blocked[name] for name in node.inputs]
        if any(entry.channels % self.block for entry in entries):
            return
        for entry in entries:
            entry.left -= 1
        node.inputs = [entry.name for entry in entries]
        self._enter(node.outputs[0], node, sum(entry.channels for entry in entries))

    def _activation(self, node: Node) -> None:
        entry = self._use(node.inputs[0])
        maker = entry.node
        fits = node.is_op(*FUSED) and maker.is_op("Conv", domain=NCHWC) and entry.uses == 1 and not maker.activation
        if fits:
            maker.activation = node.op_type
            self._enter(node.outputs[0], maker, entry.channels, fused=entry)
            self.gone.append(node)
            return
        node.inputs = [entry.name if name == node.inputs[0] else name for name in node.inputs]
        self._enter(node.outputs[0], node, entry.channels)

    def _normalisation(self, node: Node) -> None:
        """Becomes a depthwise convolution of 1 x 1."""
        parts = [self.network.weight(name) for name in node.inputs[1:5]]
        if len([name for name in node.outputs if name]) > 1 or any(part is None for part in parts):
            return
        entry = self._use(node.inputs[0])
        like = self.network.values[node.inputs[0]]
        padded = up(entry.channels, self.block)
        scale = self.network.new_value("bn_scale", (padded, 1, 1, 1), like, constant=True)
        shift = self.network.new_value("bn_B", (padded,), like, constant=True)
        for made in (scale, shift):
            self.network.grown.append(Growth("layout", entry.channels * 4, made.nbytes, node.name))
        conv = self.network.add(
            "Conv", [entry.name, scale.name, shift.name], [*node.outputs], NCHWC, {"group": padded}, node.name
        )
        self._enter(node.outputs[0], conv, entry.channels)
        self.gone.append(node)

    def _resize(self, node: Node) -> None:
        """Upsampling by whole numbers, nearest (or linear with asymmetric or half-pixel places)."""
        scales = self.network.weight(node.inputs[-1])
        result = self.network.values.get(node.outputs[0])
        entry = self.blocked[node.inputs[0]]
        if result is None or scales is None or len(result.shape) != 4 or scales.count != 4 or scales.kind != "float":
            return
        if any(new % old for old, new in zip(entry.shape, result.shape, strict=True)):
            return
        if node.is_op("Resize"):
            mode = _text(node.attributes.get("mode", "nearest"))
            place = _text(node.attributes.get("coordinate_transformation_mode", "half_pixel"))
            rounding = _text(node.attributes.get("nearest_mode", "round_prefer_floor"))
            if mode == "nearest" and (place != "asymmetric" or rounding != "floor"):
                return
            if mode not in ("nearest", "linear") or place not in ("asymmetric", "align_corners", "half_pixel"):
                return
        entry.left -= 1
        made = self.network.add("Upsample", [entry.name], [*node.outputs], NCHWC, name=node.name)
        self._enter(node.outputs[0], made, entry.channels)
        self.gone.append(node)


def _text(value: object) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
