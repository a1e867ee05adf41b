"""Which state an optimizer keeps for a parameter: tensors by dtype, shape and place, as data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import prod

from peakmem.training.optimizers.parameters import BYTES, NARROW, Parameter
from peakmem.training.optimizers.settings import Algorithm, Settings, settle
from peakmem.training.scenario import Optimizer


@dataclass(frozen=True, slots=True)
class StateTensor:
    """One tensor of an optimizer's state for one parameter."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    operator: str
    # that makes it
    host: bool = False
    # in the processor's memory wherever the parameter is
    paged: bool = False
    # in managed memory that moves between the host and the GPU: outside of the caching allocator

    @property
    def nbytes(self) -> int:
        """Its bytes."""
        return prod(self.shape) * BYTES[self.dtype]


Layout = Callable[[Settings, Parameter], Iterator[StateTensor]]

PAGED_FROM = 100_000
# elements from which a paged optimizer's state is paged (get_state_buffer, bitsandbytes 0.50.2)
TABLE = 256
# values of a quantisation table, float32: one for signed states and one for unsigned ones (create_dynamic_map)


def _alike(name: str, parameter: Parameter, operator: str = "aten::zeros_like") -> StateTensor:
    return StateTensor(name, parameter.shape, parameter.dtype, operator)


def _sgd(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    if settings.momentum:
        fused = settings.implementation == "fused"
        yield _alike("momentum_buffer", parameter, "aten::empty_like" if fused else "aten::clone")


def _adam(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    yield _step(settings)
    yield _alike("exp_avg", parameter)
    yield _alike("exp_avg_sq", parameter)
    if settings.amsgrad:
        yield _alike("max_exp_avg_sq", parameter)


def _step(settings: Settings, operator: str = "aten::empty") -> StateTensor:
    fused = settings.implementation == "fused"
    return StateTensor("step", (), "float32", "aten::zeros" if fused else operator, host=not fused)


def _rmsprop(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    yield _step(settings, "aten::zeros")
    yield _alike("square_avg", parameter)
    if settings.momentum > 0:
        yield _alike("momentum_buffer", parameter)
    if settings.centered:
        yield _alike("grad_avg", parameter)


def _adagrad(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    yield _step(settings)
    yield _alike("sum", parameter, "aten::full_like")


def _adafactor(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    shape = parameter.shape
    yield _step(settings)
    if len(shape) > 1:
        yield StateTensor("row_var", (*shape[:-1], 1), parameter.dtype, "aten::new_zeros")
        yield StateTensor("col_var", (*shape[:-2], 1, shape[-1]), parameter.dtype, "aten::new_zeros")
    else:
        yield _alike("variance", parameter)


def _adafactor_transformers(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    """In 32 bits for gradients of 16; the counter is a Python number."""
    shape = parameter.shape
    dtype = "float32" if parameter.dtype in ("bfloat16", "float16") else parameter.dtype
    if settings.first_moment:
        yield StateTensor("exp_avg", shape, dtype, "aten::zeros_like")
    if len(shape) >= 2:
        yield StateTensor("exp_avg_sq_row", shape[:-1], dtype, "aten::zeros")
        yield StateTensor("exp_avg_sq_col", (*shape[:-2], shape[-1]), dtype, "aten::zeros")
    else:
        yield StateTensor("exp_avg_sq", shape, dtype, "aten::zeros_like")


def _lion(_: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    yield _alike("exp_avg", parameter)


def _blockwise(settings: Settings, parameter: Parameter) -> Iterator[StateTensor]:
    """One byte an element and one float32 scale a block; small parameters keep float32 whatever their own dtype."""
    wide = parameter.elements < settings.small
    paged = settings.paged and parameter.elements >= PAGED_FROM
    for at in range(1, settings.moments + 1):
        dtype = "float32" if wide else "uint8"
        yield StateTensor(f"state{at}", parameter.shape, dtype, "aten::zeros_like", paged=paged)
    if not wide:
        blocks = -(-parameter.elements // settings.block)
        for at in range(1, settings.moments + 1):
            yield StateTensor(f"absmax{at}", (blocks,), "float32", "aten::zeros")


_LAYOUTS: dict[Algorithm, Layout] = {
    "sgd": _sgd, "adam": _adam, "rmsprop": _rmsprop, "adagrad": _adagrad, "adafactor": _adafactor,
    "adafactor-transformers": _adafactor_transformers, "lion": _lion, "blockwise": _blockwise,
}  # fmt: skip


def layout(settings: Settings, parameter: Parameter) -> list[StateTensor]:
    """The state of one parameter, in the order in which it is made."""
    return list(_LAYOUTS[settings.algorithm](settings, parameter))


def state_bytes(parameters: Iterable[Parameter], optimizer: Optimizer, device: str) -> int:
    """Bytes of all state on the device: on a GPU without what the host holds and without paged memory."""
    settings, total, packed = settle(optimizer, device), 0, False
    for parameter in parameters:
        if settings.master and parameter.gradient and parameter.dtype in NARROW:
            parameter = parameter._replace(dtype="float32")
            total += parameter.nbytes
        if parameter.gradient or settings.algorithm == "adagrad":
            for tensor in layout(settings, parameter):
                if device == "cpu" or not (tensor.host or tensor.paged):
                    total += tensor.nbytes
                packed |= tensor.dtype == "uint8"
    if settings.algorithm == "blockwise":
        tables = 2 if device == "cpu" else settings.moments if packed else 0
        total += tables * TABLE * BYTES["float32"]
    return total
