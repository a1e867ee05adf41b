"""Recurrent layers, their cells, and the wrappers that run a layer over time or both ways.

One operator a layer: the steps inside share their memory. Weights as Keras stores them: kernel,
recurrent kernel and bias of every cell, all gates side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from peakmem.errors import GraphError
from peakmem.frontends.keras.config import LayerSpec, Settings, layer_spec, policy
from peakmem.frontends.keras.graph import Given, LayerCall, tensors_in
from peakmem.frontends.keras.layers.registry import layer
from peakmem.frontends.keras.layers.windows import sliding, spatial_rank
from peakmem.ir.dims import Symbol
from peakmem.ir.graph import Tensor

GATES: Mapping[str, int] = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}
STATES: Mapping[str, int] = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}
MOST_CELLS = 16


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a recurrent layer."""

    form: str
    # "LSTM", "GRU" or "SimpleRNN"
    settings: Settings
    prefix: str
    # of the names of its weights
    units: int


def _cell(form: str, config: Mapping[str, object], owner: str, prefix: str) -> Cell:
    settings = Settings(config, owner)
    return Cell(form, settings, prefix, settings.whole("units"))


@layer("LSTM", "GRU", "SimpleRNN", "CuDNNLSTM", "CuDNNGRU")
def recurrent(call: LayerCall) -> list[str]:
    form = call.op_type.removeprefix("CuDNN")
    return _run(call, [_cell(form, call.spec.config, call.path, "")])


@layer("RNN")
def with_cells(call: LayerCall) -> list[str]:
    """RNN(cell) or RNN([cells]): the layers between cells never hold a whole sequence."""
    inner = call.nested("cell")
    entries = inner.config.get("cells") if inner.class_name == "StackedRNNCells" else None
    specs = [inner] if not isinstance(entries, list) else [layer_spec(entry) for entry in entries]
    cells = []
    for position, spec in enumerate(specs):
        form = spec.class_name.removesuffix("Cell")
        if form not in GATES or not spec.known or not spec.class_name.endswith("Cell"):
            from peakmem.frontends.keras.layers import unknown

            return unknown(call)
        cells.append(_cell(form, spec.config, call.path, f"{position}/" if len(specs) > 1 else ""))
    if not cells or len(cells) > MOST_CELLS:
        raise call.settings.error(f"holds {len(cells)} cells", f"1 to {MOST_CELLS}")
    return _run(call, cells)


def _run(call: LayerCall, cells: list[Cell]) -> list[str]:
    call.rank(least=3)
    x = call.cast(call.inputs[0])
    given = [name for name in call.inputs[1:] if name] or tensors_in(call.given.get("initial_state"))
    inputs, inside = [x], call.dim(-1)
    for cell in cells:
        gates, units = GATES[cell.form], cell.units
        inputs.append(call.weight(f"{cell.prefix}kernel", (inside, gates * units)))
        inputs.append(call.weight(f"{cell.prefix}recurrent_kernel", (units, gates * units)))
        if cell.settings.flag("use_bias", True):
            twice = cell.form == "GRU" and cell.settings.flag("reset_after", True)
            bias = (2, gates * units) if twice else (gates * units,)
            inputs.append(call.weight(f"{cell.prefix}bias", bias))
        else:
            inputs.append("")
        inside = units
    sizes = [(cell.units,) for cell in cells for _ in range(STATES[cell.form])]
    states = _states(call, sizes, given)
    sequences = call.settings.flag("return_sequences", False)
    returned = call.settings.flag("return_state", False)
    return call.ops(
        call.op_type.removeprefix("CuDNN"), [*inputs, *states],
        outputs=1 + (len(sizes) if returned else 0), hidden_size=cells[-1].units,
        state_sizes=tuple(size[0] for size in sizes), return_sequences=int(sequences), return_state=int(returned),
        go_backwards=int(call.settings.flag("go_backwards", False)), dtype=call.compute,
    )  # fmt: skip


def _states(call: LayerCall, sizes: list[tuple[int]], given: list[str]) -> list[str]:
    """The states that the layer starts from: what it is given, or what it keeps between runs."""
    if given or not call.settings.flag("stateful", False):
        return given
    batch = call.shape()[0]
    if isinstance(batch, Symbol):
        batch = Symbol("batch")
    names = []
    for position, size in enumerate(sizes):
        name = f"{call.path}/state_{position}"
        if name not in call.draft.tensors:
            call.draft.add(Tensor(name, (batch, *size), call.policy.compute, "state"))
        names.append(name)
    return names


@layer("ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")
def conv_lstm(call: LayerCall) -> list[str]:
    rank = spatial_rank(call.op_type)
    if call.rank() != rank + 3:
        raise call.settings.error(f"its input has rank {call.rank()}", f"{rank + 3}")
    inside = call.dim(2 if call.channels_first else -1)
    filters, kernel = call.settings.whole("filters"), call.settings.window("kernel_size", rank)
    inputs = [
        call.cast(call.inputs[0]),
        call.weight("kernel", (*kernel, inside, 4 * filters)),
        call.weight("recurrent_kernel", (*kernel, filters, 4 * filters)),
        call.weight("bias", (4 * filters,)) if call.settings.flag("use_bias", True) else "",
    ]
    given = call.inputs[1:] or tensors_in(call.given.get("initial_state"))
    returned = call.settings.flag("return_state", False)
    return call.ops(
        call.op_type, [*inputs, *given], outputs=3 if returned else 1,
        strides=call.settings.window("strides", rank, 1), dilations=call.settings.window("dilation_rate", rank, 1),
        return_sequences=int(call.settings.flag("return_sequences", False)), return_state=int(returned),
        hidden_size=filters, **sliding(call, kernel),
    )  # fmt: skip


_MERGES: Mapping[str, str] = {"sum": "Add", "ave": "Average", "mul": "Multiply"}


@layer("Bidirectional")
def bidirectional(call: LayerCall) -> list[str]:
    """The layer, its mirror image, the result of that turned round, and their merger."""
    forward = call.nested("layer")
    backward = call.nested("backward_layer") if call.settings.has("backward_layer") else _mirrored(forward)
    given = call.inputs[1:] or tensors_in(call.given.get("initial_state"))
    half = len(given) // 2
    results = []
    for prefix, spec, states in (("forward", forward, given[:half]), ("backward", backward, given[half:])):
        name = spec.name if spec.name.startswith(prefix) else f"{prefix}_{spec.name}"
        inner = LayerCall(
            call.draft, call.inside, replace(spec, name=name), f"{call.path}/{name}", [], {},
            policy(spec.config.get("dtype"), call.policy), 1, call.depth + 1,
        )  # fmt: skip
        inner.inputs = [call.inputs[0], *states]
        results.append(_directed(inner))
    (ahead, *ahead_states), (back, *back_states) = results
    if forward.config.get("return_sequences"):
        back = call.op("Flip", [back], part="flip", axis=1)
    mode = call.settings.config.get("merge_mode", "concat")
    if mode is None:
        return [ahead, back, *ahead_states, *back_states]
    if mode == "concat":
        merged = call.op("Concatenate", [ahead, back], axis=-1)
    elif isinstance(mode, str) and mode in _MERGES:
        merged = call.op(_MERGES[mode], [ahead, back])
    else:
        raise call.settings.error("merge_mode is odd", "concat, sum, ave, mul or null")
    return [merged, *ahead_states, *back_states]


def _directed(inner: LayerCall) -> list[str]:
    from peakmem.frontends.keras.layers import write_layer

    if inner.depth > 8 or inner.spec.class_name == "Bidirectional":
        raise GraphError("layers are wrapped too deeply", where=f"layer {inner.path[:200]!r}")
    return write_layer(inner)


def _mirrored(spec: LayerSpec) -> LayerSpec:
    return replace(spec, config={**spec.config, "go_backwards": not spec.config.get("go_backwards", False)})


@layer("TimeDistributed")
def time_distributed(call: LayerCall) -> list[str]:
    """The inner layer on batch × time rows at once; before and after, rows are only counted differently."""
    call.rank(least=3)
    inner = call.nested("layer")
    steps = call.shape()[1]
    known = steps if isinstance(steps, int) else None
    folded = call.op("TimeDistributed", call.inputs[:1], part="fold", fold=1)
    call.draft.note("TimeDistributed layers are taken as one call on batch × time rows")
    made = call.inside.call(inner, call.path, [Given(folded)], {}, call.policy, 1, call.depth + 1)
    if known is not None:
        return [call.op("TimeDistributed", [made[0]], part="unfold", fold=0, steps=known)]
    # The number of steps is open: it is read off the input.
    return [call.op("TimeDistributed", [made[0], call.inputs[0]], part="unfold", fold=0)]
