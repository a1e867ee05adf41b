"""Which optimizer with which options: defaults of the libraries, as data, and what is refused.

Options change what a step allocates: momentum brings a state, a weight decay that is not decoupled brings a copy of
each gradient. Learning rates and the like are not here: they change no byte.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Literal

from peakmem.errors import UsageError
from peakmem.training.scenario import Implementation, Optimizer

Algorithm = Literal["sgd", "adam", "rmsprop", "adagrad", "adafactor", "adafactor-transformers", "lion", "blockwise"]


@dataclass(frozen=True, slots=True)
class Settings:
    """An optimizer with everything that its step's memory depends on."""

    name: str
    algorithm: Algorithm
    source: str
    # whose code it is, with the version that was read
    implementations: tuple[Implementation, ...] = ("single", "foreach", "fused")
    # that exist
    implementation: Implementation = "single"
    decoupled: bool = False
    # weight decay that scales the parameter and leaves the gradient alone
    weight_decay: float = 0.0
    maximize: bool = False
    amsgrad: bool = False
    momentum: float = 0.0
    nesterov: bool = False
    dampening: float = 0.0
    centered: bool = False
    first_moment: bool = False
    # Adafactor of transformers with beta1
    scaled: bool = True
    # Adafactor of transformers with scale_parameter
    moments: int = 2
    # states of the 8-bit optimizers: two of Adam, one of Lion
    paged: bool = False
    block: int = 256
    # elements that share a scale
    small: int = 4096
    # parameters with fewer elements keep 32 bits
    master: bool = False
    # 16-bit parameters have a copy in 32 bits, which the optimizer steps; their gradients are copied for the step


_TORCH = "torch 2.13, torch/optim"
_BNB = "bitsandbytes 0.50.2, optim/optimizer.py"
_NONE: tuple[Implementation, ...] = ("single", "foreach")

KNOWN: dict[str, Settings] = {
    item.name: item
    for item in (
        Settings("sgd", "sgd", f"{_TORCH}/sgd.py"),
        Settings("momentum", "sgd", f"{_TORCH}/sgd.py", momentum=0.9),
        Settings("adam", "adam", f"{_TORCH}/adam.py"),
        Settings("adamw", "adam", f"{_TORCH}/adamw.py", decoupled=True, weight_decay=0.01),
        Settings("rmsprop", "rmsprop", f"{_TORCH}/rmsprop.py", _NONE),
        Settings("adagrad", "adagrad", f"{_TORCH}/adagrad.py"),
        Settings("adafactor", "adafactor", f"{_TORCH}/_adafactor.py", _NONE, decoupled=True),
        Settings("adafactor-transformers", "adafactor-transformers", "transformers 5.23, optimization.py", ("single",)),
        Settings("lion", "lion", "lion-pytorch 0.2.5, lion_pytorch.py and foreach.py", _NONE, decoupled=True),
        Settings("adam8bit", "blockwise", _BNB, ("fused",), "fused"),
        Settings("adamw8bit", "blockwise", _BNB, ("fused",), "fused", decoupled=True, weight_decay=0.01),
        Settings("paged-adam8bit", "blockwise", _BNB, ("fused",), "fused", paged=True),
        Settings("paged-adamw8bit", "blockwise", _BNB, ("fused",), "fused", True, 0.01, paged=True),
        Settings("lion8bit", "blockwise", _BNB, ("fused",), "fused", decoupled=True, moments=1),
        Settings("paged-lion8bit", "blockwise", _BNB, ("fused",), "fused", decoupled=True, moments=1, paged=True),
    )
}

_FIXED = {"name", "algorithm", "source", "implementations", "implementation", "decoupled", "moments"}
_OPTIONS = {item.name for item in fields(Settings)} - _FIXED
_FOREACH_ON_CUDA = {"sgd", "adam", "rmsprop", "adagrad"}
# torch.optim's own choice where neither is asked for; Adafactor's is the loop on any device


def settle(optimizer: Optimizer, device: str) -> Settings:
    """All that is asked of an optimizer, with the defaults of its library on the device.

    Raises:
        UsageError: an optimizer, an implementation or an option that is not known.
    """
    found = KNOWN.get(optimizer.name)
    if found is None:
        raise UsageError(f"no layout of the optimizer {optimizer.name!r}", expected=f"one of {', '.join(KNOWN)}")
    options = dict(optimizer.options)
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise UsageError(
            f"{optimizer.name} has no option {unknown[0]!r}", expected=f"one of {', '.join(sorted(_OPTIONS))}"
        )
    implementation = optimizer.implementation
    if implementation is None:
        by_torch = device == "cuda" and found.algorithm in _FOREACH_ON_CUDA
        implementation = "foreach" if by_torch else found.implementations[0]
    if implementation not in found.implementations:
        raise UsageError(
            f"{optimizer.name} has no {implementation} implementation ({found.source})",
            expected=f"one of {', '.join(found.implementations)}",
        )
    settled = replace(found, implementation=implementation, **options)  # type: ignore[arg-type]
    if settled.nesterov and (settled.momentum <= 0 or settled.dampening):
        raise UsageError("Nesterov momentum needs a momentum and no dampening", where=optimizer.name)
    return settled
