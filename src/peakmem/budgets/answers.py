"""The numbers of one model: each quantity asked of the analysis that knows it, once. What cannot be told says why."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from peakmem import devices
from peakmem.budgets.options import Options
from peakmem.errors import PeakmemError, UsageError
from peakmem.passes.assume import DEFAULT_ASSUMPTION
from peakmem.report.check import Value
from peakmem.report.model import Estimate
from peakmem.report.prediction import Candidate
from peakmem.report.training import Training
from peakmem.units import format_bytes

if TYPE_CHECKING:
    from peakmem.report.fit import Fit

Found = TypeVar("Found")
ALIGNMENT = 16
# bytes, of an arena that no engine is named for: TFLM's
ARENAS = {"tflm": "smallest arena"}
# engines whose arena is predicted, by the name of the detail that tells it
SHOWN = 3
# tensors alive at the peak that a finding names


@dataclass(frozen=True, slots=True)
class Unanswered:
    """Why a quantity could not be told."""

    reason: str
    hint: str = ""


class Answers:
    """Asks each analysis at most once, when one of its quantities is wanted."""

    def __init__(
        self, source: object, options: Options, *, folder: Path | None = None, own: Sequence[devices.Device] = (),
        inputs: object = None,
    ) -> None:  # fmt: skip
        self.options = options
        self.own = tuple(own)
        # devices of the user's
        self.folder = folder or Path()
        self.source = self._placed(source) if isinstance(source, str) else source
        self.inputs = inputs if inputs is not None else (options.inputs or None)
        self._kept: dict[str, object] = {}

    def _placed(self, source: str) -> str:
        """The source where the configuration means it to be."""
        from peakmem.frontends.live import is_factory
        from peakmem.zoo import is_named

        if not (self.folder / source).exists():
            if is_named(source):
                return source
            if is_factory(source):
                code = str(self.folder.resolve())
                if code not in sys.path:
                    sys.path.insert(0, code)
                return source
        return str(self.folder / source)

    @property
    def named(self) -> str:
        """The source as messages name it."""
        if isinstance(self.source, str | Path):
            return str(self.source)[:200]
        return str(getattr(self.source, "name", "") or type(self.source).__name__)[:200]

    def value(self, quantity: str) -> Value | Unanswered:
        """The quantity, or why it is not known."""
        try:
            return self._value(quantity)
        except PeakmemError as fault:
            return unanswered(fault)

    def why(self, quantity: str) -> tuple[str, ...]:
        """What the quantity is made of: what is alive at the peak, or the operators that store most."""
        if self.options.engine and quantity in ("peak", "resident", "arena"):
            told = self._kept.get("prediction")
            return held(told, self.options.engine) if isinstance(told, Candidate) else ()
        known = self._kept.get("estimate")
        if not isinstance(known, Estimate):
            return ()
        if quantity in ("peak", "resident", "arena"):
            return alive(known)
        if quantity in ("weights", "parameters", "file_size"):
            rows = sorted(known.layers, key=lambda row: -row.parameter_bytes)[:SHOWN]
            return tuple(
                f"{row.name} ({row.op_type}) stores {format_bytes(row.parameter_bytes)}" for row in rows
                if row.parameter_bytes
            )  # fmt: skip
        return ()

    # -- the analyses --------------------------------------------------------------------

    @property
    def estimate(self) -> Estimate:
        """The graph's own numbers."""
        return self._once("estimate", self._estimate)

    @property
    def prediction(self) -> Candidate:
        """What the engine will hold."""
        return self._once("prediction", self._prediction)

    @property
    def step(self) -> Training:
        """What a training step needs."""
        return self._once("step", self._step)

    def fit(self, device: str) -> Fit:
        """Whether it fits the device, as `peakmem fit` says it."""
        return self._once(f"fit {device}", lambda: self._fit(device))

    def _once(self, name: str, ask: Callable[[], Found]) -> Found:
        """What `ask` gives or raises, asked once."""
        if name not in self._kept:
            try:
                self._kept[name] = ask()
            except PeakmemError as fault:
                self._kept[name] = fault
        kept = self._kept[name]
        if isinstance(kept, PeakmemError):
            raise kept
        return cast(Found, kept)

    def _estimate(self) -> Estimate:
        from peakmem.pipeline import estimate

        said = self.options
        return estimate(
            self.source, inputs=self.inputs, batch=said.batch, shapes=said.shapes, dims=said.dims,
            dtype=said.dtype or None, assume=said.assume or DEFAULT_ASSUMPTION, hold_inputs=said.hold_inputs,
            form=said.form, options=said.options,
        )  # fmt: skip

    def _prediction(self) -> Candidate:
        from peakmem.prediction import predict
        from peakmem.processors import parse_processor

        said = self.options
        if not isinstance(self.source, str | Path):
            raise UsageError(
                "an engine is predicted from a file, a built-in network or package.module:factory",
                where=self.named, expected="a model that is none in memory",
            )  # fmt: skip
        report = predict(
            str(self.source), engines=[said.engine], settings=said.settings, batch=said.batch,
            shapes=said.shapes or None, dims=said.dims or None, inputs=said.inputs,
            processor=parse_processor(said.processor) if said.processor else None,
        )  # fmt: skip
        found = report.candidates
        if len(found) != 1:
            raise UsageError(f"{len(found)} choices of settings", expected="one value for each setting")
        if found[0].outcome != "predicted":
            raise UsageError(f"{said.engine}: {found[0].reason or found[0].outcome}")
        return found[0]

    def _step(self) -> Training:
        from peakmem.rehearsal import capacity_of, train

        asked = self.options.train
        assert asked is not None
        card = devices.find(asked.device, self.own or None) if asked.device else None
        return train(
            self.source, scenario=asked.scenario, inputs=self.inputs, shapes=self.options.shapes,
            dims=self.options.dims, capacity=None if card is None else capacity_of(card), conf=asked.conf,
            route=asked.route,
        )  # fmt: skip

    def _fit(self, device: str) -> Fit:
        card, said = devices.find(device, self.own or None), self.options
        if said.train is not None:
            from peakmem.fitting.training import fit_training

            step = said.train
            return fit_training(
                self.source, step.scenario, card, inputs=self.inputs, shapes=said.shapes, dims=said.dims,
                conf=step.conf, route=step.route,
            )  # fmt: skip
        from peakmem.fitting.fit import fit
        from peakmem.processors import parse_processor

        return fit(
            self.source, card, engine=said.engine, settings=said.settings, batch=said.batch, shapes=said.shapes,
            dims=said.dims, inputs=said.inputs, dtype=said.dtype, assume=said.assume or DEFAULT_ASSUMPTION,
            form=said.form, options=said.options, file=said.file_format,
            processor=parse_processor(said.processor) if said.processor else None,
        )  # fmt: skip

    # -- the quantities ------------------------------------------------------------------

    def _value(self, quantity: str) -> Value:
        if quantity in ("weights", "parameters"):
            return _stored(self.estimate, quantity)
        if quantity == "file_size":
            return self._file_size()
        if quantity in ("step_peak", "reserved"):
            return self._of_step(quantity)
        if self.options.engine:
            return self._of_engine(quantity)
        return self._arena() if quantity == "arena" else _running(self.estimate, quantity)

    def _of_step(self, quantity: str) -> Value:
        step, held = self.step, self.step.reserved
        if quantity == "step_peak":
            said = f"tensors of a training step [{step.device}, {step.optimizer}, {step.precision}]"
            return Value(quantity, step.peak.nbytes, "bytes", "estimate", said, step.bound_bytes, step.peak.operator)
        if held is None:
            raise UsageError("nothing is reserved by an allocator on the processor", hint='device = "cuda"')
        return Value(
            quantity, held.reserved_bytes, "bytes", "estimate", "reserved by torch's CUDA allocator", held.bound_bytes,
            held.operator,
        )  # fmt: skip

    def _of_engine(self, quantity: str) -> Value:
        found, name = self.prediction, self.options.engine
        missing = sum(one.nbytes for one in found.unmodelled)
        unsized = any(not one.nbytes for one in found.unmodelled)
        if quantity == "arena" or (quantity == "peak" and name in ARENAS):
            nbytes, said = (found.details or {}).get(ARENAS.get(name, "")), f"{name}: smallest arena it runs in"
        elif quantity == "resident":
            nbytes, said = found.process_bytes, f"{name}: anonymous memory of its process at the peak"
        else:
            nbytes, said = found.heap_peak_bytes, f"{name}: heap peak above the engine's own, {found.peak_phase}"
        if nbytes is None:
            raise UsageError(f"{quantity} is not known for {name}", expected="peak, weights or file_size")
        sure = found.kind == "estimate" and not unsized
        at = next((one.peak_at for one in found.moments if one.phase == found.peak_phase), "")
        return Value(quantity, nbytes, "bytes", found.kind, said, nbytes + missing if sure else None, at)

    def _arena(self) -> Value:
        from peakmem.fitting.need import needed, packed, rounded
        from peakmem.fitting.question import Question

        said = self.options
        need = needed(
            Question(
                self.source, said.batch, tuple(said.shapes.items()), tuple(said.dims.items()), said.inputs, said.dtype,
                "", said.assume or DEFAULT_ASSUMPTION, said.form, tuple(said.options.items()),
            )
        )  # fmt: skip
        sure = need.activations_known and not need.unknowns
        nbytes = packed(rounded(need.buffers, ALIGNMENT))
        return Value(
            "arena", nbytes, "bytes", "estimate" if sure else "lower bound",
            f"activations packed greedily, {said.assume or DEFAULT_ASSUMPTION}, aligned to {ALIGNMENT} B",
            nbytes if sure else None, need.at,
        )  # fmt: skip

    def _file_size(self) -> Value:
        if self.options.file_format:
            return self._predicted_file()
        path = Path(self.source) if isinstance(self.source, str | Path) else None
        if path is None or not path.is_file():
            raise UsageError(
                "the source is no file", where=self.named, expected="a format to predict its file in",
                hint='file_format = "onnx"',
            )  # fmt: skip
        beside = [detail.nbytes or 0 for detail in self.estimate.details if detail.name == ".bin file"]
        # ncnn: the weights of a .param file
        parts = [path, *(self.folder / one for one in self.options.files)]
        for one in parts:
            if not one.is_file():
                raise UsageError("this is no file", where=str(one), expected="files that are shipped with the model")
        nbytes = sum(one.stat().st_size for one in parts) + sum(beside)
        if self.estimate.dtype == "as stored" and nbytes < self.estimate.weights_bytes:
            raise UsageError(
                f"{format_bytes(nbytes)} on disk hold {format_bytes(self.estimate.weights_bytes)} of weights: some lie "
                "in other files", where=path.name, expected="these files named", hint=f'files = ["{path.name}.data"]',
            )  # fmt: skip
        named = " + ".join(one.name for one in parts)
        return Value("file_size", nbytes, "bytes", "exact", f"on disk: {named}", nbytes)

    def _predicted_file(self) -> Value:
        from peakmem.filesize.predict import file_size

        said = self.options
        found = file_size(
            self.source, said.file_format, said.dtype or None, batch=said.batch, shapes=said.shapes, dims=said.dims,
            inputs=self.inputs, form=said.form, options=said.options,
        )  # fmt: skip
        stored = "as stored" if found.dtype == "stored" else found.dtype
        return Value(
            "file_size", found.nbytes, "bytes", found.kind,
            f"predicted: {found.format} file, {stored} ({found.writer})", found.high_bytes,
        )  # fmt: skip


def unanswered(fault: PeakmemError) -> Unanswered:
    """An error as an answer."""
    return Unanswered(str(PeakmemError(fault.what, where=fault.where, expected=fault.expected)), fault.hint)


def alive(report: Estimate) -> tuple[str, ...]:
    """The operator of the peak and the largest tensors that are alive there."""
    peak = report.peak
    if not peak.alive:
        return ()
    shown = [f"{one.name} {one.shape} {one.dtype}: {format_bytes(one.nbytes)}" for one in peak.alive[:SHOWN]]
    left = peak.alive[SHOWN:]
    if left:
        shown.append(f"and {len(left):,} more: {format_bytes(sum(one.nbytes for one in left))}")
    return (f"the peak is at {peak.operator} ({peak.op_type}), alive there:", *shown)


def held(found: Candidate, engine: str) -> tuple[str, ...]:
    """What an engine holds at its peak, by category; the parts of its arena where it has one."""
    details = found.details or {}
    if engine in ARENAS:
        parts = {"head": "activations, as they are planned", "tail": "the interpreter's structures"}
        return tuple(
            f"{name}: {format_bytes(details[name])} ({said})" for name, said in parts.items() if name in details
        )
    top = max(found.moments, key=lambda moment: moment.peak_bytes, default=None)
    if top is None:
        return ()
    most = sorted(top.peak, key=lambda one: -one.nbytes)[: SHOWN + 2]
    said = [f"{one.category}: {format_bytes(one.nbytes)}{f' ({one.what})' if one.what else ''}" for one in most]
    return (f"the peak is in {top.phase}{f', at {top.peak_at}' if top.peak_at else ''}, held there:", *said)


def _stored(report: Estimate, quantity: str) -> Value:
    if quantity == "parameters":
        count = report.parameters.trainable
        return Value(quantity, count, "elements", "exact", "weights, biases, affine parts of norms", count)
    unsized = any(item.op_type == "constant" for item in report.unknowns)
    nbytes = report.weights_bytes
    counted = "as stored" if report.dtype == "as stored" else f"counted in {report.dtype}"
    kind = "lower bound" if unsized else "exact" if report.dtype == "as stored" else "estimate"
    return Value(quantity, nbytes, "bytes", kind, f"everything stored, {counted}", None if unsized else nbytes)


def _running(report: Estimate, quantity: str) -> Value:
    nbytes, said = report.peak_bytes, "live peak"
    if quantity == "resident":
        nbytes, said = report.total_bytes, "weights + state + live peak"
    sure = report.kind == "estimate" and report.peak.activations_known
    kind = "estimate" if sure else "lower bound"
    counted = report.assume if report.dtype == "as stored" else f"{report.assume}, {report.dtype}"
    return Value(quantity, nbytes, "bytes", kind, f"{said} [{counted}]", nbytes if sure else None, report.peak.operator)
