"""Any other family of Hugging Face, built by transformers itself from the configuration alone.

No weight is loaded and nothing is fetched; code that a configuration brings along is not run. transformers takes
tensors without memory for a graph capture and then makes masks that it does not make in a real step
(`utils/import_utils.py`, `is_tracing`; `masking_utils.py`): during the forward it is told that nothing is captured,
that rows are not packed and that nothing is padded.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from peakmem.errors import FormatError, MissingLibrary, UsageError
from peakmem.training.networks.building import building, finished, made, only, taken
from peakmem.training.networks.built_in import long_enough, widened
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts, Workload

SEQUENCE = 512
IMAGES = 8
TEXTS = 8
OPTIONS = ("cached", "keep_outputs", "labels")


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of head: how its class is called, and what its batch is."""

    suffix: str
    auto: str
    batch: Callable[[Any, int, int, int], dict[str, Any]]
    # of the configuration, the batch, the tokens and the resolution
    said: str


def _tokens(config: Any, batch: int, sequence: int) -> Any:
    vocabulary = getattr(config.get_text_config(), "vocab_size", None) or 2
    return torch.randint(0, vocabulary, (batch, sequence))


def _texts(labels: Callable[[Any, int, int], dict[str, Any]]) -> Callable[[Any, int, int, int], dict[str, Any]]:
    def make(config: Any, batch: int, sequence: int, _resolution: int) -> dict[str, Any]:
        return {"input_ids": _tokens(config, batch, sequence), **labels(config, batch, sequence)}

    return make


def _images(config: Any, batch: int, _sequence: int, resolution: int) -> dict[str, Any]:
    channels = getattr(config, "num_channels", 3) or 3
    return {
        "pixel_values": torch.randn(batch, channels, resolution, resolution),
        "labels": torch.randint(0, config.num_labels, (batch,)),
    }


def _spans(_config: Any, batch: int, sequence: int) -> dict[str, Any]:
    return {name: torch.randint(0, sequence, (batch,)) for name in ("start_positions", "end_positions")}


TASKS = (
    Task("ForCausalLM", "AutoModelForCausalLM", _texts(lambda c, b, s: {"labels": _tokens(c, b, s)}),
         "the next token"),
    Task("LMHeadModel", "AutoModelForCausalLM", _texts(lambda c, b, s: {"labels": _tokens(c, b, s)}),
         "the next token"),
    Task("ForMaskedLM", "AutoModelForMaskedLM", _texts(lambda c, b, s: {"labels": _tokens(c, b, s)}),
         "a label for each token"),
    Task("ForConditionalGeneration", "AutoModelForSeq2SeqLM", _texts(lambda c, b, s: {"labels": _tokens(c, b, s)}),
         "as many tokens out as in"),
    Task("ForSequenceClassification", "AutoModelForSequenceClassification",
         _texts(lambda c, b, _s: {"labels": torch.randint(0, c.num_labels, (b,))}), "a class for each text"),
    Task("ForTokenClassification", "AutoModelForTokenClassification",
         _texts(lambda c, b, s: {"labels": torch.randint(0, c.num_labels, (b, s))}), "a class for each token"),
    Task("ForQuestionAnswering", "AutoModelForQuestionAnswering", _texts(_spans), "the ends of a span"),
    Task("ForImageClassification", "AutoModelForImageClassification", _images, "a class for each image"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class HuggingFace:
    """A network that transformers builds."""

    name: str
    path: Path
    task: Task
    scenario: Scenario
    options: dict[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def build(self) -> Parts:
        """See `step.Workload`."""
        import transformers
        from transformers.initialization import no_init_weights

        options = taken(self.options, OPTIONS, self.name)
        with building(self.scenario) as dtype, _quiet(), ExitStack() as stack:
            config = self._config()
            cached = bool(options.get("cached", getattr(config, "use_cache", False))) and not self.scenario.recompute
            if torch._guards.detect_fake_mode() is not None:
                stack.enter_context(no_init_weights())
            try:
                auto = getattr(transformers, self.task.auto)
                model = made(lambda: auto.from_config(config, dtype=dtype, trust_remote_code=False), self.scenario)
            except (ValueError, KeyError, ImportError) as fault:
                raise UsageError(
                    f"transformers does not build it: {_first_line(fault)}", where=self.name,
                    expected=f"a configuration that {self.task.auto} knows",
                ) from None  # fmt: skip
            if getattr(config, "is_encoder_decoder", False) and getattr(config, "decoder_start_token_id", None) is None:
                config.decoder_start_token_id = model.config.decoder_start_token_id = config.pad_token_id or 0
            if hasattr(config, "use_cache"):
                config.use_cache = model.config.use_cache = cached
            if self.scenario.recompute and "pixel_values" not in self._batch(config)[0]:
                widened(model)
            batch, samples, said = self._batch(config)
            if "input_ids" in batch:
                long_enough(model, batch["input_ids"].shape[1])
        keeps = bool(options.get("keep_outputs"))

        def loss() -> Any:
            with as_in_a_step():
                out = model(**batch)
            return (out.loss, out) if keeps else out.loss

        return finished(model, loss, samples, (said, *self.notes))

    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            config = AutoConfig.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)
        except (ValueError, KeyError, OSError, TypeError) as fault:
            raise FormatError(f"transformers cannot read it: {_first_line(fault)}", where=str(self.path)) from None
        if getattr(config, "quantization_config", None) is not None:
            raise UsageError(
                "its weights are quantised, which is not followed here", where=self.name,
                hint="the configuration of the unquantised network, with --lora and its quantised base",
            )  # fmt: skip
        return config

    def _batch(self, config: Any) -> tuple[dict[str, Any], int, str]:
        images = self.task.suffix == "ForImageClassification"
        only("resolution" if images else "sequence", self.scenario, self.name)
        own = getattr(config, "image_size", None)
        resolution = self.scenario.resolution or (own if isinstance(own, int) else 224)
        longest = getattr(config.get_text_config(), "max_position_embeddings", None) or SEQUENCE
        sequence = self.scenario.sequence or min(SEQUENCE, longest)
        samples = self.scenario.batch or (IMAGES if images else TEXTS)
        what = f"{samples} images of {resolution}x{resolution}" if images else f"{samples} texts of {sequence} tokens"
        made = self.task.batch(config, samples, sequence, resolution)
        return made, samples, f"{what}, its own loss with {self.task.said}, no mask of padding"


def transformers_workload(
    name: str, path: Path, config: Mapping[str, Any], scenario: Scenario, options: dict[str, Any],
    notes: tuple[str, ...],
) -> Workload:  # fmt: skip
    """The workload of a configuration whose family only transformers knows.

    Raises:
        MissingLibrary: transformers is not installed.
        UsageError: it brings code along, or says nothing of what is trained.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    try:
        import transformers  # noqa: F401
    except ImportError:
        purpose = f"building a network of the family {config['model_type']!r}"
        raise MissingLibrary("transformers", extra="transformers", purpose=purpose) from None
    architectures = config.get("architectures") or []
    named = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if config.get("auto_map"):
        raise UsageError(
            "the configuration brings code along, which is not run", where=name,
            hint="peakmem train 'your.package:make_step'",
        )  # fmt: skip
    task = next((task for task in TASKS if named.endswith(task.suffix)), None)
    if task is None:
        raise UsageError(
            f"what {named or config['model_type']} is trained for is not known", where=name,
            expected="architectures with one of " + ", ".join(task.suffix for task in TASKS),
            hint='"architectures": ["…ForCausalLM"] in config.json, or your.package:make_step',
        )  # fmt: skip
    return HuggingFace(name, path, task, scenario, options, notes)


@contextmanager
def as_in_a_step() -> Iterator[None]:
    """transformers goes the way of a real step on tensors without memory.

    What it would read from the batch is answered: one sequence in each row, no padding.
    """
    if torch._guards.detect_fake_mode() is None:
        yield
        return
    from transformers import masking_utils, modeling_utils
    from transformers.utils import import_utils

    from peakmem.training.networks.language import look_for_packed

    def unpacked(position_ids: Any) -> None:
        look_for_packed(position_ids, position_ids.shape[0])

    changes: list[tuple[Any, str, Any]] = [
        (import_utils, "is_fake_tensor", lambda _tensor: False),
        (masking_utils, "find_packed_sequence_indices", unpacked),
        (modeling_utils.PreTrainedModel, "warn_if_padding_and_no_attention_mask", lambda *_given, **_named: None),
    ]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changes if hasattr(owner, name)]
    for owner, name, new in changes:
        if hasattr(owner, name):
            setattr(owner, name, new)
    try:
        yield
    finally:
        for owner, name, old in kept:
            setattr(owner, name, old)


@contextmanager
def _quiet() -> Iterator[None]:
    from peakmem.frontends.torch.fake import quiet

    with quiet():
        yield


def _first_line(fault: BaseException) -> str:
    return (str(fault).strip().splitlines() or [type(fault).__name__])[0][:200]
