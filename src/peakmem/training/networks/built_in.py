"""The workload of a built-in network: the network, its batch, its loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

import torch
from torch.nn import functional

from peakmem.errors import UsageError
from peakmem.training.networks.building import building, finished, made, only, taken
from peakmem.training.networks.registry import Entry
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts

AUXILIARY = 0.3
# weight of an auxiliary classifier's loss (Szegedy et al., 2014, arXiv:1409.4842, section 5)
LANGUAGE = ("cached", "keep_outputs", "padded")
POSITIONS = frozenset({"wpe", "position_embeddings", "embed_positions"})
# what tables of learned positions are called, here and in transformers


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """One of `registry.NETWORKS` under a scenario."""

    entry: Entry
    scenario: Scenario
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called in reports."""
        return self.entry.name

    def build(self) -> Parts:
        """See `step.Workload`."""
        entry = self.entry
        module, function = entry.builder.split(":")
        builder: Callable[..., Any] = getattr(import_module(f"peakmem.training.networks.{module}"), function)
        batch = self.scenario.batch or entry.batch
        only("sequence" if entry.kind in ("tokens", "states") else "resolution", self.scenario, self.name)
        with building(self.scenario) as dtype:
            if entry.kind == "tokens":
                return self._language(builder, batch)
            model = self._made(builder)
            if entry.kind == "states":
                return self._states(model, batch, dtype)
            return self._image(model, batch, dtype)

    def _made(self, builder: Callable[..., Any]) -> Any:
        own = inspect.signature(builder).parameters
        known = tuple(name for name, item in own.items() if item.kind is item.KEYWORD_ONLY) or ("classes",)
        given = dict(self.entry.given) | taken(self.options, known, self.name)
        if self.entry.sized and "resolution" not in given:
            given["resolution"] = self._resolution()
        try:
            return made(lambda: builder(*self.entry.positional, **given), self.scenario)
        except (KeyError, TypeError, ValueError, RuntimeError) as fault:
            raise UsageError(f"the options cannot be: {fault}", where=self.name) from None

    def _resolution(self) -> int:
        return self.scenario.resolution or self.entry.resolution

    def _image(self, model: Any, batch: int, dtype: torch.dtype) -> Parts:
        entry, side = self.entry, self._resolution()
        channels = next(model.parameters()).shape[1] if not entry.sized else 3
        classes = _classes(model)
        images = torch.randn(batch, channels, side, side, dtype=dtype)
        out = side - _margin(entry.name)
        labels = torch.randint(0, classes, (batch,) if entry.kind == "classes" else (batch, out, out))
        auxiliary = entry.outcome == "auxiliary" and model.aux1 is not None

        def loss() -> Any:
            scores = model(images)
            if auxiliary:
                first, second, third = scores
                return functional.cross_entropy(first, labels) + AUXILIARY * (
                    functional.cross_entropy(second, labels) + functional.cross_entropy(third, labels)
                )
            return functional.cross_entropy(scores, labels)

        what = "the class of each pixel" if entry.kind == "pixels" else "a class for each image"
        return self._finished(model, loss, batch, f"{batch} images of {side}x{side}, cross entropy with {what}")

    def _language(self, builder: Callable[..., Any], batch: int) -> Parts:
        options = taken(self.options, LANGUAGE, self.name)
        cached = bool(options.get("cached", True)) and not self.scenario.recompute
        model = made(lambda: builder(*self.entry.positional, cached=cached), self.scenario)
        sequence = self.scenario.sequence or self.entry.sequence
        return language_parts(model, self.scenario, batch, sequence, options, (self.entry.note,))

    def _states(self, model: Any, batch: int, dtype: torch.dtype) -> Parts:
        steps, lstm = self.scenario.sequence or self.entry.sequence, model.lstm
        inputs = torch.randn(batch, steps, lstm.input_size, dtype=dtype)
        targets = torch.randn(batch, steps, lstm.hidden_size, dtype=dtype)

        def loss() -> Any:
            states = model(inputs)
            return functional.mse_loss(states, targets)

        said = f"{batch} sequences of {steps} steps, mean squared error of all states"
        return self._finished(model, loss, batch, said)

    def _finished(self, model: Any, loss: Callable[[], Any], batch: int, said: str) -> Parts:
        return finished(model, loss, batch, tuple(note for note in (said, self.entry.note) if note))


def _classes(model: Any) -> int:
    """Outputs of the last layer with a weight of its own."""
    auxiliary = ("aux1", "aux2")
    named = [item for name, item in model.named_parameters() if not name.startswith(auxiliary) and item.dim() > 1]
    return int(named[-1].shape[0])


def _margin(name: str) -> int:
    """Rows that the paper's valid convolutions take away: 572 in, 388 out."""
    return 184 if name == "unet" else 0


def language_parts(
    model: Any, scenario: Scenario, batch: int, sequence: int, options: dict[str, Any], notes: tuple[str, ...]
) -> Parts:
    """Tokens, labels and the loss of a language model of this package; called where tensors are made."""
    long_enough(model, sequence)
    if scenario.recompute:
        widened(model)
    keeps, padded = bool(options.get("keep_outputs")), bool(options.get("padded"))
    tokens = torch.randint(0, model.vocabulary, (batch, sequence))
    labels = torch.randint(0, model.vocabulary, (batch, sequence))
    padding = torch.ones(batch, sequence, dtype=torch.int64) if padded else None

    def loss() -> Any:
        out = model(tokens, labels, padding)
        return (out.loss, out) if keeps else out.loss

    said = (
        f"{batch} sequences of {sequence} tokens, {'some' if padded else 'none'} of them padding",
        "cross entropy with the next token, in float32",
        f"keys and values {'are' if model.cached else 'are not'} cached",
        "the outputs of a step are kept until the next forward is through" if keeps else "",
        *notes,
    )
    return finished(model, loss, batch, tuple(note for note in said if note))


def long_enough(model: Any, sequence: int) -> None:
    """See that a table of positions has a row for each token: a trace reads none of them.

    Raises:
        UsageError: it has fewer.
    """
    for path, module in model.named_modules():
        table = isinstance(module, torch.nn.Embedding) and path.rpartition(".")[2] in POSITIONS
        if table and module.num_embeddings < sequence:
            raise UsageError(
                f"{sequence:,} tokens are more than its {module.num_embeddings:,} positions", where=path,
                hint=f"--sequence {module.num_embeddings}",
            )  # fmt: skip


def widened(model: Any) -> None:
    """The embedding's result takes part in the backward, also where the embedding is frozen.

    transformers 5.23 asks for it as soon as layers are recomputed (`modeling_utils.py`, `enable_input_require_grads`).
    """
    for module in model.modules():
        if isinstance(module, torch.nn.Embedding):
            module.register_forward_hook(lambda _module, _inputs, result: result.requires_grad_(True))
            return
