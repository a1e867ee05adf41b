"""Functions on devices, engines, files and costs: what claims compare a network with."""

from __future__ import annotations

from fractions import Fraction

from peakmem.errors import MissingLibrary, UsageError
from peakmem.ledger.context import whole
from peakmem.ledger.functions.registry import Scope, function, text, value
from peakmem.ledger.value import Item, Value, nbytes, number, said
from peakmem.passes.assume import DEFAULT_ASSUMPTION

GROUP = "devices and engines"
ROOMS = {"memory": "memory_bytes", "storage": "storage_bytes", "capacity": "capacity_bytes"}


@function(
    'device("v100-16gb", "memory")',
    "bytes of a device: memory as its maker prints it, capacity (what a process gets of it), storage", GROUP,
    scoped=False,
)  # fmt: skip
def device(_: Scope, name: Item, room: Item = "memory") -> Item:
    """How much a device has."""
    from peakmem import devices

    found = devices.find(text(name, "the device"))
    size: int | None = getattr(found, ROOMS[text(room, "the room", tuple(ROOMS))])
    if size is None:
        raise UsageError(f"nobody says how much {room} {found.title} has")
    return nbytes(size, "data")


@function(
    'fits(resident_fused(), "iphone-11")', "whether so many bytes fit in a size or in a device", GROUP, scoped=False
)
def fits(scope: Scope, size: Item, room: Item, of: Item = "capacity") -> Item:
    """Whether it fits."""
    there = device(scope, room, of) if isinstance(room, str) else value(room, "the room")
    assert isinstance(there, Value)
    needed = value(size, "the size")
    if {needed.unit, there.unit} - {"B", ""}:
        raise UsageError(f"{said(needed)} in {said(there)}: these are no sizes")
    return needed.number <= there.number


@function(
    'engine("ncnn", "peak", "lightmode=off")',
    "bytes of heap above the loaded engine that it is predicted to hold: peak (the most ever), or what is held after "
    "load, run 1 or steady; settings as on the command line", GROUP,
)  # fmt: skip
def engine(scope: Scope, name: Item, what: Item = "peak", settings: Item = "") -> Item:
    """What an engine will hold."""
    from peakmem.prediction import predict

    chosen, wanted, context = text(name, "the engine"), text(what, "what"), scope.context
    told = predict(
        context.source, engines=(chosen,), settings=(text(settings, "the settings"),) if settings else (),
        batch=context.batch, shapes=dict(context.shape) or None, dims=dict(context.dims) or None,
    )  # fmt: skip
    found = told.candidates[0]
    if found.outcome in ("missing", "not converted"):
        raise MissingLibrary(chosen, extra=chosen, purpose=f"a prediction for {chosen} ({found.reason[:120]})")
    if found.outcome == "refused":
        raise UsageError(f"{chosen}: {found.reason[:300]}")
    if wanted == "peak":
        return nbytes(found.heap_peak_bytes, found.kind if found.kind == "lower bound" else "estimate")
    moments = {moment.phase: moment.live_bytes for moment in found.moments}
    return nbytes(moments[text(what, "what", ("peak", *moments))])  # type: ignore[index]


@function(
    'file_size("onnx", fold=True)',
    "bytes of the file that a network would be written as: onnx, ncnn, tflite, safetensors, pt, gguf; fold: batch "
    'norms within the convolutions before them; which="tensors" without what stands around them', GROUP,
)  # fmt: skip
def file_size(scope: Scope, format: Item, fold: Item = None, which: Item = "file") -> Item:  # type: ignore[assignment]
    """How large a file will be."""
    from peakmem.filesize.predict import file_size as predicted

    if fold is not None and not isinstance(fold, bool):
        raise UsageError(f"fold is {said(fold)}", expected="True or False")
    context = scope.context
    found = predicted(
        context.source, text(format, "the format"), context.dtype or None, fold, batch=context.batch,
        shapes=dict(context.shape) or None, dims=dict(context.dims) or None,
    )  # fmt: skip
    wanted = text(which, "which", ("file", "tensors"))
    return nbytes(found.nbytes if wanted == "file" else found.tensor_bytes)


@function(
    'largest("batch", "v100-16gb", fixed=parse("1 GB"))',
    "the largest batch, resolution or other size with which weights and live activations (or quantity=\"live\" alone) "
    "fit a device or a size, less what is fixed; solved from the formula of the peak", GROUP,
)  # fmt: skip
def largest(scope: Scope, knob: Item, room: Item, quantity: Item = "resident", fixed: Item = None) -> Item:  # type: ignore[assignment]
    """The largest value of a knob that fits, 0 where none does."""
    from peakmem.scaling import largest as solved

    there = device(scope, room, "capacity") if isinstance(room, str) else value(room, "the room")
    assert isinstance(there, Value)
    context = scope.context
    found = solved(
        context.source, text(knob, "the knob"), int(there.number),
        fixed_bytes=0 if fixed is None else int(value(fixed, "what is fixed").number),
        quantity=text(quantity, "the quantity", ("resident", "live")),  # type: ignore[arg-type]
        batch=context.batch, shapes=dict(context.shape) or None, dims=dict(context.dims) or None,
        dtype=context.dtype or None, assume=context.assume or DEFAULT_ASSUMPTION, hold_inputs=context.hold_inputs,
        options=context.reading or None,
    )  # fmt: skip
    if found.value is None:
        raise UsageError(f"no {said(knob)} is too large for {said(there)}")
    return number(found.value, "", "estimate", found.operator)


@function(
    'cost(weights(), 1000, "0.10 USD/GB-month", months=12)',
    'what storing so many copies of so many bytes costs, for a month or several; per="GiB" reads the price\'s GB so',
    GROUP, scoped=False,
)  # fmt: skip
def cost(_: Scope, size: Item, copies: Item, price: Item, months: Item = None, per: Item = None) -> Item:  # type: ignore[assignment]
    """Money for storage, exact."""
    from peakmem.pricing import cost as priced

    needed = value(size, "the size")
    if needed.number.denominator != 1 or needed.unit not in ("B", ""):
        raise UsageError(f"{said(needed)} is no size in whole bytes")
    many = 1 if months is None else whole(months, "months", least=1)
    found = priced(
        int(needed.number), whole(copies, "copies"), text(price, "the price"),
        per=None if per is None else text(per, "per", ("GB", "GiB", "MB", "MiB", "TB", "TiB")), months=many,
    )  # fmt: skip
    return number(Fraction(found.rows[0].whole), "$", needed.kind)
