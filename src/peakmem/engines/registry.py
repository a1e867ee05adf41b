"""Which engines can be predicted: a profile each, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

from peakmem.engines.prediction import Profile, Value
from peakmem.errors import UsageError
from peakmem.ir.graph import Graph

PROFILES = {
    "ncnn": "peakmem.engines.ncnn.profile",
    "onnxruntime": "peakmem.engines.onnxruntime.profile",
    "litert": "peakmem.engines.litert.profile",
    "tflm": "peakmem.engines.tflm.profile",
    "openvino": "peakmem.engines.openvino.profile",
    "pytorch": "peakmem.engines.pytorch.profile",
    "executorch": "peakmem.engines.executorch.profile",
    "mnn": "peakmem.engines.mnn.profile",
}
# each module has PROFILE
LEVERS: dict[str, dict[str, tuple[Value, ...]]] = {
    "ncnn": {
        "lightmode": (True, False), "winograd": (True, False), "sgemm": (True, False), "bf16_storage": (False, True),
    },
    "onnxruntime": {
        "arena": (True, False), "mem_pattern": (True, False), "optimisation": ("all", "extended", "disable"),
    },
    "litert": {"kernels": ("xnnpack", "builtin", "reference")},
    "tflm": {"quantise": ("none", "int8")},
    "openvino": {"precision": ("default", "f32")},
    "pytorch": {"mode": ("inference",)},
    "executorch": {"backend": ("xnnpack", "portable")},
    "mnn": {"winograd_level": (3, 1, 0)},
}  # fmt: skip
# the settings that move memory most, with what is tried when somebody asks what fits


READERS = {"pytorch": "peakmem.engines.pytorch.source:graph_for"}
# engines whose files are code: how it becomes a graph; the others' files are read as any model is


def reader(name: str) -> Callable[..., Graph] | None:
    """What reads the files of the engine called `name`, where that is not the usual way."""
    home, _, function = READERS.get(name, "").partition(":")
    return getattr(import_module(home), function) if home else None


def profile(name: str) -> Profile:
    """The profile of the engine called `name`.

    Raises:
        UsageError: there is none.
    """
    if name not in PROFILES:
        raise UsageError(f"no profile predicts {name!r}", expected=", ".join(PROFILES), hint="peakmem engines")
    found: Profile = import_module(PROFILES[name]).PROFILE
    return found
