"""The pieces transformers are made of, written into a graph with the names their files use.

Constants are called as in a checkpoint and have its shapes; a quantised layer reads what stands in
its place. Scalars become attributes, so that nothing is stored that a checkpoint has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from peakmem.dtypes import FLOAT32, INT64, DType
from peakmem.errors import GraphError
from peakmem.frontends.hf.quantisation import Scheme
from peakmem.ir.builder import GraphBuilder
from peakmem.ir.dims import Dim, Shape, Symbol
from peakmem.ir.graph import Tensor
from peakmem.ir.kinds.peakmem import EXPERT_SIDES

OPSET = 24
DOMAIN = "peakmem"
BATCH, SEQUENCE = Symbol("batch"), Symbol("sequence")

ACTIVATIONS = {
    "gelu": "Gelu", "gelu_new": "Gelu", "gelu_pytorch_tanh": "Gelu", "gelu_fast": "Gelu", "gelu_python": "Gelu",
    "gelu_10": "Gelu", "quick_gelu": "Gelu", "gelu_python_tanh": "Gelu", "gelu_accurate": "Gelu",
    "relu": "Relu", "relu6": "Relu", "silu": "Swish", "swish": "Swish", "tanh": "Tanh", "sigmoid": "Sigmoid",
    "mish": "Mish", "leaky_relu": "LeakyRelu", "elu": "Elu", "selu": "Selu",
}  # fmt: skip
# the library's names; one operator each, although some are written out in several there


class Network:
    """A graph in the making, and how its weights are stored."""

    def __init__(
        self, name: str, dtype: DType, *, scheme: Scheme | None = None, eager: bool = False, library: bool = False
    ) -> None:
        self.b = GraphBuilder(name, dtype=dtype, opset=OPSET)
        self.dtype = dtype
        self.scheme = scheme
        self.eager = eager
        # whether attention holds its scores
        self.library = library
        # whether tensors live as long as the library's variables refer to them
        self.quantised = 0
        self._stored: dict[str, str] = {}
        self._scope = ""

    # -- plumbing ------------------------------------------------------------------------

    @contextmanager
    def scope(self, path: str) -> Iterator[None]:
        """Operators made inside belong to the module at `path`."""
        before, self._scope = self._scope, path + "."
        with self.b.scope(path):
            yield
        self._scope = before

    def short(self, path: str) -> str:
        """`path` as seen from the module that is being written."""
        return path.removeprefix(self._scope)

    def own(self, op_type: str, *inputs: str, name: str = "", **attributes: Any) -> str:
        """An operator of peakmem's own, with one output."""
        return self.b.op(op_type, inputs, name=name, domain=DOMAIN, **attributes)[0]

    def width(self, x: str) -> int:
        """Size of the last axis."""
        size = self.b.shape(x)[-1]
        if not isinstance(size, int):
            raise GraphError(f"the width of {x!r} is not known", where=self.b.name)
        return size

    def weight(self, name: str, *shape: int, dtype: DType | None = None, tied: str = "") -> str:
        """The constant `name`; one that is asked for again is the same. `tied` names whose bytes it shares."""
        known = self._stored.get(name)
        if known is None:
            tensor = Tensor(name, shape, dtype or self.dtype, role="constant", storage=tied)
            known = self._stored[name] = self.b.tensor(tensor)
        return known

    def buffer(self, name: str, *shape: int, dtype: DType | None = None) -> str:
        """A stored tensor that is no parameter."""
        tensor = Tensor(name, shape, dtype or self.dtype, role="constant", parameter=False)
        return self.b.tensor(tensor)

    def input_ids(self, name: str = "input_ids", tokens: Dim = SEQUENCE) -> str:
        return self.b.input(name, (BATCH, tokens), INT64)

    def hold(self, *names: str) -> None:
        """Keep `names` alive to here, as the library's variables do; nothing for an engine."""
        if self.library:
            self.b.op("Held", [name for name in dict.fromkeys(names) if name], 0, name="held", domain=DOMAIN)

    # -- layers --------------------------------------------------------------------------

    def embedding(self, ids: str, path: str, rows: int, width: int, *, tied: str = "") -> str:
        return self.b.one("Gather", self.weight(f"{path}.weight", rows, width, tied=tied), ids, name=self.short(path))

    def linear(
        self, x: str, path: str, features: int, *, bias: bool = False, whole: bool = False, tied: str = ""
    ) -> str:
        """A fully connected layer; `whole` ones are never quantised."""
        inside = self.width(x)
        added = self.weight(f"{path}.bias", features) if bias else ""
        scheme = self.scheme
        if whole or tied or scheme is None or scheme.experts_only or not scheme.covers(path):
            weight = self.weight(f"{path}.weight", features, inside, tied=tied)
            return self.own("Linear", x, weight, *([added] if added else []), name=self.short(path))
        return self.own("QuantizedLinear", x, *self._packed(path, features, inside, added), name=self.short(path))

    def _packed(self, path: str, features: int, inside: int, bias: str) -> list[str]:
        """Weight, bias or "", and what stands beside the weight of the layer at `path`."""
        scheme = self.scheme
        assert scheme is not None
        self.quantised += 1
        weight = self.weight(f"{path}.{scheme.suffix}", features, inside, dtype=scheme.weight)
        beside = [
            self.weight(f"{path}.{side.suffix}", *_whole(side.shape), dtype=side.dtype)
            for side in scheme.sides(features, inside)
        ]
        return [weight, bias, *beside]

    def conv1d(self, x: str, path: str, features: int) -> str:
        """GPT-2's fully connected layer, stored as inputs × outputs."""
        inside = self.width(x)
        bias = self.weight(f"{path}.bias", features)
        scheme = self.scheme
        if scheme is None or scheme.experts_only or not scheme.covers(path):
            return self.own("Conv1D", x, self.weight(f"{path}.weight", inside, features), bias, name=self.short(path))
        return self.own("QuantizedLinear", x, *self._packed(path, features, inside, bias), name=self.short(path))

    def rms_norm(self, x: str, path: str, width: int | None = None) -> str:
        weight = self.weight(f"{path}.weight", width or self.width(x))
        return self.b.one("RMSNormalization", x, weight, name=self.short(path), axis=-1)

    def layer_norm(self, x: str, path: str, *, weight: bool = True, bias: bool = True) -> str:
        width = self.width(x)
        parts = [self.weight(f"{path}.weight", width)] if weight else []
        if bias:
            parts.append(self.weight(f"{path}.bias", width))
        return self.b.one("LayerNormalization", x, *parts, name=self.short(path), axis=-1)

    def norm(self, x: str, path: str, kind: str) -> str:
        """A norm of `kind`: rms, layer, layer_plain (no bias) or layer_bare (nothing stored)."""
        if kind == "rms":
            return self.rms_norm(x, path)
        return self.layer_norm(x, path, weight=kind != "layer_bare", bias=kind == "layer")

    def activate(self, x: str, kind: str) -> str:
        """An activation function by the library's name, which `activation` has checked."""
        if self.library and kind in ("gelu_new", "gelu_fast", "gelu_python_tanh", "gelu_accurate"):
            return self._written_gelu(x)
        if self.library and kind == "quick_gelu":
            return self.b.mul(x, self.b.sigmoid(self.own("Scale", x)))
        return self.b.one(ACTIVATIONS[kind], x, name=kind)

    def _written_gelu(self, x: str) -> str:
        """The tanh form of GELU as the library writes it out: half x times (1 + tanh of a cubic)."""
        half = self.own("Scale", x, name="half")
        y = self.own("Scale", self.own("Scale", x, name="cube"))
        y = self.own("Scale", self.b.add(x, y))
        y = self.own("Scale", self.b.one("Tanh", y))
        y = self.b.mul(half, y)
        self.hold(x)
        return y

    def part(self, x: str, start: int, size: int) -> str:
        """A slice of the last axis, as a view."""
        if start == 0 and size == self.width(x):
            return x
        return self.own("Part", x, start=start, size=size)

    def split(self, x: str, heads: int) -> str:
        """(batch, tokens, width) as (batch, heads, tokens, head size), a view."""
        return self.own("SplitHeads", x, heads=heads)

    def cast(self, x: str, dtype: DType, source: DType | None = None) -> str:
        """`x` in another dtype; nothing where it has it already."""
        return x if (source or self.dtype) is dtype else self.b.one("Cast", x, name="cast", to=dtype.name)

    # -- feed-forward --------------------------------------------------------------------

    def gated(self, x: str, path: str, names: Sequence[str], inside: int, kind: str, *, bias: bool = False) -> str:
        """down(act(gate(x)) · up(x)); with two names the first layer is gate and up in one."""
        hidden, given = self.width(x), x
        if len(names) == 2:
            both = self.linear(x, f"{path}.{names[0]}", 2 * inside, bias=bias)
            gate, up = self.part(both, 0, inside), self.part(both, inside, inside)
            gate = self.activate(gate, kind)
        else:
            gate = self.activate(self.linear(x, f"{path}.{names[0]}", inside, bias=bias), kind)
            up = self.linear(x, f"{path}.{names[1]}", inside, bias=bias)
        y = self.b.mul(gate, up)
        self.hold(given)
        return self.linear(y, f"{path}.{names[-1]}", hidden, bias=bias)

    def plain(
        self,
        x: str,
        path: str,
        names: Sequence[str],
        inside: int,
        kind: str,
        *,
        bias: bool = True,
        conv1d: bool = False,
    ) -> str:
        """down(act(up(x)))."""
        hidden, (up, down) = self.width(x), (f"{path}.{name}" if path else name for name in names)
        if conv1d:
            return self.conv1d(self.activate(self.conv1d(x, up, inside), kind), down, hidden)
        y = self.activate(self.linear(x, up, inside, bias=bias), kind)
        return self.linear(y, down, hidden, bias=bias)

    def experts(self, rows: str, chosen: str, paths: Sequence[Sequence[str]], features: int) -> str:
        """One grouped product: `paths` gives, per expert, the layers whose outputs stand side by side."""
        inside, inputs = self.width(rows), []
        scheme = self.scheme
        packed = scheme is not None and not scheme.experts_only and scheme.covers(paths[0][0])
        for expert in paths:
            for path in expert:
                if packed:
                    weight, _, *beside = self._packed(path, features // len(expert), inside, "")
                    inputs += [weight, *beside[:EXPERT_SIDES], *[""] * (EXPERT_SIDES - len(beside))]
                else:
                    inputs.append(self.weight(f"{path}.weight", features // len(expert), inside))
        op_type = "QuantizedExperts" if packed else "Experts"
        return self.own(op_type, rows, chosen, *inputs, name="experts", features=features)

    def stacked(self, rows: str, chosen: str, path: str, count: int, features: int) -> str:
        """The layers of all experts in one tensor (experts × inputs × outputs), each with a bias."""
        inside, beside = self.width(rows), []
        scheme = self.scheme
        if scheme is not None and scheme.covers(path):
            self.quantised += 1
            weight = self.weight(f"{path}_{scheme.suffix}", count, inside, features, dtype=scheme.weight)
            for side in scheme.sides(features, inside):
                beside.append(self.weight(f"{path}_{side.suffix}", count, *_whole(side.shape), dtype=side.dtype))
        else:
            weight = self.weight(path, count, inside, features)
        bias = self.weight(f"{path}_bias", count, features)
        return self.own("StackedExperts", rows, chosen, weight, bias, *beside, name="experts", features=features)

    def head(self, x: str, path: str, features: int, *, bias: bool = False, tied: str = "") -> str:
        """The last layer of a network; `tied` names the table whose bytes it shares."""
        covered = self.scheme is not None and self.scheme.head
        return self.linear(x, path, features, bias=bias, whole=not covered, tied=tied)

    def rotary_table(self, tokens: str, width: int) -> tuple[str, str]:
        """Cosines and sines of the positions of `tokens`."""
        cos, sin = self.b.op(
            "RotaryTable", [tokens], 2, name="rotary", domain=DOMAIN, width=width, dtype=self.dtype.name
        )  # fmt: skip
        return cos, sin

    def mask(self, tokens: str) -> str:
        """What is added to scores so that a token sees none after it; only eager attention holds it."""
        return self.own("CausalMask", tokens, name="mask", dtype=self.dtype.name)

    def float32(self, x: str) -> str:
        return self.cast(x, FLOAT32)


def _whole(shape: Shape) -> tuple[int, ...]:
    return tuple(dim for dim in shape if isinstance(dim, int))
