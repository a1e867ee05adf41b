"""The workload of a Hugging Face configuration: our own module where its family is known here, else transformers'."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from peakmem.errors import FormatError, UsageError
from peakmem.training.networks import gpt2
from peakmem.training.networks.building import building, made, only, taken
from peakmem.training.networks.built_in import LANGUAGE, language_parts
from peakmem.training.networks.decoder import Decoder, decoder
from peakmem.training.networks.llama import LlamaLike
from peakmem.training.scenario import Scenario
from peakmem.training.tracing.step import Parts, Workload

MOST_BYTES = 16 * 2**20
# of a configuration; published ones have a few thousand
SEQUENCE = 2048
# tokens where nobody says; fewer if the network has fewer positions
BATCH = 1


@dataclass(frozen=True, slots=True)
class Configured:
    """A decoder of a family that is known here."""

    name: str
    shape: Decoder | gpt2.Shape
    scenario: Scenario
    options: dict[str, Any] = field(default_factory=dict)
    cached: bool = True
    notes: tuple[str, ...] = ()

    def build(self) -> Parts:
        """See `step.Workload`."""
        options = taken(self.options, LANGUAGE, self.name)
        only("sequence", self.scenario, self.name)
        cached = bool(options.get("cached", self.cached)) and not self.scenario.recompute
        sequence = self.scenario.sequence or min(SEQUENCE, self.shape.positions)
        window = self.shape.window if isinstance(self.shape, Decoder) else None
        if window is not None and sequence >= window:
            raise UsageError(
                f"{sequence} tokens do not fit in the window of {window}: a mask is made, which is not followed here",
                where=self.name, expected=f"fewer than {window} tokens", hint=f"--sequence {window - 1}",
            )  # fmt: skip
        with building(self.scenario):
            model = made(lambda: self._network(cached), self.scenario)
            return language_parts(model, self.scenario, self.scenario.batch or BATCH, sequence, options, self.notes)

    def _network(self, cached: bool) -> Any:
        if isinstance(self.shape, Decoder):
            return LlamaLike(self.shape, cached=cached)
        return gpt2.gpt2(self.shape, cached=cached)


def configured(path: Path, scenario: Scenario, options: dict[str, Any]) -> Workload:
    """What a configuration stands for.

    Raises:
        FormatError: it is no configuration.
        UsageError: code of its own would be needed.
        MissingLibrary: only transformers knows its family, and is not installed.
    """
    config = _read(path)
    name = _name(path, config)
    notes = _asked(config, scenario)
    shape = _shape(config)
    if shape is not None:
        cached = config.get("use_cache", True) is not False
        return Configured(name, shape, scenario, options, cached, notes)
    from peakmem.training.networks.huggingface import transformers_workload

    return transformers_workload(name, path, config, scenario, options, notes)


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise FormatError(f"more than {MOST_BYTES} bytes", where=str(path), expected="a config.json")
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as fault:
        raise FormatError(f"cannot be read: {fault}", where=str(path), expected="a config.json") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise FormatError("no model_type in it", where=str(path), expected="the config.json of a Hugging Face model")
    return config


def _name(path: Path, config: Mapping[str, Any]) -> str:
    given = config.get("_name_or_path")
    folder = path.resolve().parent.name if path.name == "config.json" else path.stem
    return folder or str(given or config["model_type"])


def _asked(config: Mapping[str, Any], scenario: Scenario) -> tuple[str, ...]:
    own = config.get("dtype") or config.get("torch_dtype")
    if own in ("bfloat16", "float16") and scenario.precision == "float32":
        return (f"the configuration says {own}; parameters are float32 unless a precision is asked for",)
    return ()


def _shape(config: Mapping[str, Any]) -> Decoder | gpt2.Shape | None:
    """The shape of a causal language model that is known here."""
    architectures = config.get("architectures")
    named = architectures[0] if isinstance(architectures, list) and architectures else ""
    if named and not str(named).endswith(("ForCausalLM", "LMHeadModel")):
        return None
    if "quantization_config" in config or config.get("auto_map"):
        return None
    if config["model_type"] == "gpt2":
        return _gpt2(config)
    return decoder(config)


def _gpt2(config: Mapping[str, Any]) -> gpt2.Shape | None:
    odd = ("reorder_and_upcast_attn", "scale_attn_by_inverse_layer_idx", "add_cross_attention")
    if any(config.get(name) for name in odd):
        return None

    def rate(name: str) -> float:
        value = config.get(name, 0.1)
        return float(value) if isinstance(value, int | float) else 0.1

    def size(name: str, default: int) -> int:
        value = config.get(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
            raise FormatError(f"{name} is {value!r}", where="config.json", expected="a whole number above 0")
        return value

    activation = str(config.get("activation_function", "gelu_new"))
    if activation not in ("gelu_new", "gelu"):
        return None
    return gpt2.Shape(
        size("vocab_size", 50_257), size("n_positions", 1024), size("n_embd", 768), size("n_layer", 12),
        size("n_head", 12), config.get("n_inner"), rate("embd_pdrop"), rate("attn_pdrop"), rate("resid_pdrop"),
        activation,
    )  # fmt: skip
