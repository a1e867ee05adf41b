"""Code that asks for the content of tensors which have none: what it is answered, or that it is refused.

A value is declared for a line (`("moe.py:41", 0.25)`) or for all (`("*", 0)`); of several that fit, that of the
innermost line counts. A number is answered as it is, in the tensor's kind; where it stands for how many elements are
true or distinct, a whole number is a count and a fraction with a point a share of them; a tuple gives each element of a
list. What PyTorch's own code reads is known and needs no value: `KNOWN`. Imported with torch at hand.
"""

# ruff: noqa: ARG001
# PyTorch calls these with arguments of its own

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch._subclasses import fake_impls
from torch._subclasses.fake_tensor import FakeTensor
from torch.optim import optimizer as optimizer_hooks

from peakmem.training.tracing import patches
from peakmem.training.tracing.refusals import Site, sites_here, unread, unsupported_optimizer
from peakmem.training.tracing.undecided import Undecided

aten = torch.ops.aten
NOT_FOUND = object()
EAGER = "torch.compile is left out: what it fuses, and the buffers that it plans, are not in the number"

# Reads by code that is not the user's: end of the file's path, function (empty: any), answer, what is assumed thereby.
# Each was read in torch 2.13 or transformers 5.23; what is allocated does not depend on the answer but as said.
KNOWN: tuple[tuple[str, str, object, str], ...] = (
    ("torch/amp/grad_scaler.py", "_maybe_opt_step", 0.0, "no gradient overflows: GradScaler lets every step happen"),
    ("torch/amp/grad_scaler.py", "get_scale", 65536.0, ""),  # its default
    ("torch/amp/grad_scaler.py", "_get_growth_tracker", 0, ""),
    ("torch/nn/utils/clip_grad.py", "", 0.0, ""),  # error_if_nonfinite: they are finite
    ("torch/nn/init.py", "", 0.0, ""),  # trunc_normal_: no value is outside
    ("torch/utils/data/dataloader.py", "", 0, ""),  # the seed of its workers
    ("torch/utils/data/sampler.py", "", 0, "whatever a DataLoader draws is as large as its first sample"),
    ("transformers/masking_utils.py", "", 1.0, "no token is padding and no row holds several sequences"),
    ("transformers/modeling_utils.py", "warn_if_padding_and_no_attention_mask", 0.0, ""),
    ("transformers/modeling_attn_mask_utils.py", "", 1.0, "no token is padding"),
)  # fmt: skip
STEPPED = "torch/optim/"
# a read here is of the number of steps, or of a norm that scales the update (adafactor.py): answered by that number
SCALED = {"nadam.py": 0.5}
# reads products of its momenta too; either only scales the update
REFUSED_OPTIMIZERS = {"lbfgs.py": "how often it evaluates the model depends on the loss"}


@dataclass(slots=True)
class Answers:
    """What is answered, and what was."""

    values: tuple[tuple[str, object], ...]
    steps: dict[int, int] = field(default_factory=dict)
    # how often each optimizer stepped, by its id
    stepping: list[int] = field(default_factory=list)
    # those whose step runs
    used: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)
    # assumptions made, for people

    def declared(self, sites: list[Site]) -> object:
        """What is declared for the line that runs; NOT_FOUND without."""
        table = dict(self.values)
        for site in sites:
            if not site.is_foreign and site.name in table:
                self.used.add(site.name)
                return table[site.name]
        return NOT_FOUND

    def known(self, sites: list[Site]) -> object:
        """What code of PyTorch or transformers is answered; NOT_FOUND for others."""
        optimizers = []
        for site in sites:
            path = site.path.replace("\\", "/")
            for end, function, answer, assumed in KNOWN:
                if path.endswith(end) and function in ("", site.function):
                    if assumed and assumed not in self.notes:
                        self.notes.append(assumed)
                    return answer
            if not site.is_foreign:
                break
            if STEPPED in path:
                optimizers.append(path.rsplit("/", 1)[-1])
        return self.of_optimizer(optimizers) if optimizers else NOT_FOUND

    def of_optimizer(self, files: list[str]) -> float:
        """What torch's optimizers are answered.

        Raises:
            UsageError: one whose step depends on it.
        """
        for name in files:
            if name in REFUSED_OPTIMIZERS:
                title = name.removesuffix(".py").upper()
                raise unsupported_optimizer(f"torch.optim.{title}", REFUSED_OPTIMIZERS[name])
        scaled = next((SCALED[name] for name in files if name in SCALED), None)
        if scaled is not None:
            return scaled
        return float(self.steps.get(self.stepping[-1], 1)) if self.stepping else 1.0

    def find(self) -> object:
        """What the code that runs is answered; NOT_FOUND when nobody said."""
        sites = sites_here()
        found = self.declared(sites)
        if found is NOT_FOUND:
            found = self.known(sites)
        if found is NOT_FOUND and "*" in (table := dict(self.values)):
            self.used.add("*")
            return table["*"]
        return found

    def number(self, operator: str, tensor: Any) -> Any:
        """One element of a tensor.

        Raises:
            UsageError: nobody said.
        """
        found = self.find()
        if found is NOT_FOUND:
            raise unread(operator, "its value", "0")
        if isinstance(found, tuple | list):
            found = found[0]
        return _as(tensor.dtype, found)

    def count(self, operator: str, asks: str, most: int, example: str = "0.25") -> int:
        """How many of `most` elements.

        Raises:
            UsageError: nobody said.
        """
        found = self.find()
        if found is NOT_FOUND:
            raise unread(operator, asks, example)
        if isinstance(found, tuple | list):
            return int(sum(found))
        if isinstance(found, float):
            return min(most, math.ceil(found * most))
        return max(0, int(found))  # type: ignore[call-overload, no-any-return]

    def elements(self, operator: str, tensor: Any) -> list[Any]:
        """Every element of a tensor, in order.

        Raises:
            UsageError: nobody said, or as many values are declared as the tensor has not.
        """
        found = self.find()
        if found is NOT_FOUND:
            raise unread(operator, f"its {tensor.numel()} values", "0")
        if isinstance(found, tuple | list):
            if len(found) != tensor.numel():
                raise unread(operator, f"its {tensor.numel()} values, of which {len(found)} are declared", "0")
            return [_as(tensor.dtype, item) for item in found]
        return [_as(tensor.dtype, found)] * tensor.numel()


def _as(dtype: Any, value: Any) -> Any:
    if dtype == torch.bool:
        return bool(value)
    if dtype.is_complex:
        return complex(value)
    return float(value) if dtype.is_floating_point else int(value)


def _is_mask(item: Any) -> bool:
    return isinstance(item, torch.Tensor) and item.dtype in (torch.bool, torch.uint8)


def _scalar(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    return answers.number("item", args[0])


def _equal(answers: Answers, func: Any, args: Any, kwargs: Any) -> bool:
    return bool(answers.number("equal", torch.empty((), dtype=torch.bool)))


def _nonzero(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    number = answers.count("nonzero", "how many elements are true", tensor.numel())
    return tensor.new_empty((number, tensor.dim()), dtype=torch.int64)


def _masked_select(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    shape = torch.broadcast_shapes(args[0].shape, args[1].shape)
    number = answers.count("masked_select", "how many elements of the mask are true", math.prod(shape))
    return args[0].new_empty((number,))


def _index(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """A mask stands for the places where it is true (aten/src/ATen/native/IndexingUtils.h, expandTensors)."""
    indices: list[Any] = []
    for item in args[1]:
        if not _is_mask(item):
            indices.append(item)
            continue
        number = answers.count("indexing with a mask", "how many elements of the mask are true", item.numel())
        indices += [item.new_empty((number,), dtype=torch.int64) for _ in range(item.dim())]
    return func(args[0], indices)


def _unique(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    tensor = args[0]
    number = answers.count("unique", "how many elements are distinct", tensor.numel())
    given = {**dict(zip(("sorted", "return_inverse", "return_counts"), args[1:], strict=False)), **kwargs}
    if func is aten.unique_consecutive.default:
        given = {**dict(zip(("return_inverse", "return_counts"), args[1:], strict=False)), **kwargs}
    inverse = tensor.shape if given.get("return_inverse") else (0,)
    counts = (number,) if given.get("return_counts") else (0,)
    return (
        tensor.new_empty((number,)), tensor.new_empty(inverse, dtype=torch.int64),
        tensor.new_empty(counts, dtype=torch.int64),
    )  # fmt: skip


def _repeat_interleave(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    number = answers.count("repeat_interleave", "what the repeats sum to", args[0].numel(), "1024")
    return args[0].new_empty((number,), dtype=torch.int64)


def _bincount(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    weights = args[1] if len(args) > 1 else kwargs.get("weights")
    least = args[2] if len(args) > 2 else kwargs.get("minlength", 0)
    number = max(least, answers.count("bincount", "the largest element and one", args[0].numel(), str(max(least, 8))))
    narrow = weights is None or not weights.dtype.is_floating_point
    return args[0].new_empty(
        (number,), dtype=torch.int64 if weights is None else torch.float64 if narrow else weights.dtype
    )


def _pack(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """aten/src/ATen/native/PackedSequence.cpp: rows of all lengths in one block, and how many rows each step has.

    Lengths are declared for the rows, longest first, or one for all; a share is one of the longest possible.
    """
    given, lengths, batch_first = args
    rows, most = (given.shape[0], given.shape[1]) if batch_first else (given.shape[1], given.shape[0])
    found: Any = answers.find()
    if found is NOT_FOUND:
        raise unread("packing sequences", f"how long the {rows} sequences are", f"{most}")
    one = math.ceil(found * most) if isinstance(found, float) else found
    each = list(found) if isinstance(found, tuple | list) else [one] * lengths.numel()
    each = [min(most, max(1, int(length))) for length in each]
    sizes = torch.empty((max(each),), dtype=torch.int64, device="cpu")
    sizes.content = [sum(length > at for length in each) for at in range(max(each))]
    return given.new_empty((sum(each), *given.shape[2:])), sizes


def _ctc_loss(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """aten/src/ATen/native/cuda/LossCTC.cu: alphas for each row, step and twice the longest target and one."""
    scores, targets = args[:2]
    steps, rows = scores.shape[:2]
    longest = answers.count("ctc_loss", "how long the longest target is", targets.shape[-1], str(targets.shape[-1]))
    return scores.new_empty((rows,)), scores.new_empty((rows, steps, 2 * longest + 1))


def _ctc_loss_backward(answers: Answers, func: Any, args: Any, kwargs: Any) -> Any:
    """The same file: a gradient for each score."""
    return torch.empty_like(args[1], memory_format=torch.contiguous_format)


RULES: dict[Any, Callable[[Answers, Any, Any, Any], Any]] = {
    aten._local_scalar_dense.default: _scalar,
    aten.equal.default: _equal,
    aten.allclose.default: _equal,
    aten.nonzero.default: _nonzero,
    aten.masked_select.default: _masked_select,
    aten.index.Tensor: _index,
    aten._unique2.default: _unique,
    aten.unique_consecutive.default: _unique,
    aten.repeat_interleave.Tensor: _repeat_interleave,
    aten.bincount.default: _bincount,
    aten._pack_padded_sequence.default: _pack,
    aten._ctc_loss.default: _ctc_loss,
    aten._ctc_loss.Tensor: _ctc_loss,
    aten._ctc_loss_backward.default: _ctc_loss_backward,
    aten._ctc_loss_backward.Tensor: _ctc_loss_backward,
}


def _methods(answers: Answers) -> list[tuple[Any, str, Any]]:
    """What tensors without content do when Python asks them for it."""
    read = torch.Tensor.item

    def item(self: Any) -> Any:
        if self.numel() != 1 or not self.dtype.is_floating_point or self.constant is not None:
            return read(self)
        found = answers.find()
        if found is not NOT_FOUND:
            return _as(self.dtype, found[0] if isinstance(found, tuple | list) else found)
        fault = unread("item", "its value, which decides how the step goes on", "0")
        return Undecided(lambda: fault)

    def tolist(self: Any) -> Any:
        if self.dim() == 0:
            return self.item()
        if hasattr(self, "content"):
            return list(self.content)
        return _nested(answers.elements("tolist", self) if self.numel() else [], tuple(self.shape))

    def numpy(self: Any, *, force: bool = False) -> Any:
        import numpy

        if self.device.type != "cpu" and not force:
            raise TypeError(f"can't convert {self.device} device type tensor to numpy. Use Tensor.cpu() first.")
        if self.requires_grad and not force:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        kind = str(self.dtype).removeprefix("torch.")
        values = answers.elements("numpy", self) if self.numel() else []
        return numpy.array(values, dtype=kind).reshape(tuple(self.shape))

    def as_array(self: Any, dtype: Any = None, *rest: Any, **options: Any) -> Any:
        made = self.numpy()
        return made if dtype is None else made.astype(dtype)

    compiled = torch.compile

    def compile_(*args: Any, **kwargs: Any) -> Any:
        if EAGER not in answers.notes:
            answers.notes.append(EAGER)
        return compiled(*args, **kwargs)

    return [
        (torch, "compile", compile_), (FakeTensor, "item", item), (FakeTensor, "tolist", tolist),
        (FakeTensor, "numpy", numpy), (FakeTensor, "__array__", as_array),
    ]  # fmt: skip


def _nested(values: list[Any], shape: tuple[int, ...]) -> Any:
    if len(shape) == 1:
        return values
    each = math.prod(shape[1:])
    return [_nested(values[at * each : (at + 1) * each], shape[1:]) for at in range(shape[0])]


def _implementations(answers: Answers) -> dict[Any, Callable[..., Any]]:
    """The rules as implementations of operators on tensors without memory."""

    def answering(func: Any, rule: Callable[[Answers, Any, Any, Any], Any]) -> Callable[..., Any]:
        before = fake_impls.op_implementations_dict.get(func)

        def made(mode: Any, func: Any, *args: Any, **kwargs: Any) -> Any:
            if func is aten.index.Tensor and before is not None and not any(_is_mask(item) for item in args[1]):
                return before(mode, func, *args, **kwargs)
            with mode:
                return rule(answers, func, args, kwargs)

        return made

    return {func: answering(func, rule) for func, rule in RULES.items()}


@contextmanager
def answers(values: tuple[tuple[str, object], ...] = ()) -> Iterator[Answers]:
    """Reads of content are answered inside, by what is declared or known; others are refused.

    Raises:
        UsageError: inside, by a read that nobody declared a value for.
    """
    held = Answers(tuple(values))

    def stepping(optimizer: Any, args: Any, kwargs: Any) -> None:
        held.steps[id(optimizer)] = held.steps.get(id(optimizer), 0) + 1
        held.stepping.append(id(optimizer))

    def stepped(optimizer: Any, args: Any, kwargs: Any) -> None:
        if held.stepping:
            held.stepping.pop()

    handles = [
        optimizer_hooks.register_optimizer_step_pre_hook(stepping),
        optimizer_hooks.register_optimizer_step_post_hook(stepped),
    ]
    try:
        with (
            patches.replaced([*_methods(held), *patches.fakes()]),
            patches.implemented(_implementations(held)),
            patches.eager(),
        ):
            yield held
    finally:
        for handle in handles:
            handle.remove()
