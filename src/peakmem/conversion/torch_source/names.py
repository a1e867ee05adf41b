"""Identifiers and literals for written Python: only what is made here ever becomes code.

A model file is not trusted: its names are cut to ASCII letters, digits and underscores, its numbers are
written by `repr` after their type was checked, and no other text of it is written at all.
"""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable

from peakmem.errors import GraphError

LONGEST = 60
# characters of an identifier; longer ones are cut and numbered

MODULE_ATTRIBUTES = frozenset(
    {
        "T_destination", "add_module", "apply", "bfloat16", "buffers", "call_super_init", "children", "compile", "cpu",
        "cuda", "double", "dump_patches", "eval", "extra_repr", "float", "forward", "get_buffer", "get_extra_state",
        "get_parameter", "get_submodule", "half", "ipu", "load_state_dict", "modules", "mtia", "named_buffers",
        "named_children", "named_modules", "named_parameters", "parameters", "register_backward_hook",
        "register_buffer", "register_forward_hook", "register_forward_pre_hook", "register_full_backward_hook",
        "register_full_backward_pre_hook", "register_load_state_dict_post_hook",
        "register_load_state_dict_pre_hook", "register_module", "register_parameter", "register_state_dict_post_hook",
        "register_state_dict_pre_hook", "requires_grad_", "set_extra_state", "set_submodule", "share_memory",
        "state_dict", "to", "to_empty", "train", "training", "type", "xpu", "zero_grad",
    }
)  # fmt: skip
# public names of torch.nn.Module (2.13), which a layer must not replace

TAKEN = frozenset({"torch", "nn", "F", "math", "self", "weight", "Network", "factory", "model", "INPUTS", "WEIGHTED"})
# names the written file uses itself

_PLAIN = re.compile(r"[^0-9A-Za-z]+")
_COMMENT = re.compile(r"[^0-9A-Za-z_ .:=,/+-]+")


class Names:
    """Unique identifiers of one scope."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = {*taken}

    def make(self, text: str, otherwise: str = "value") -> str:
        """A new identifier that resembles `text`."""
        stem = _stem(text) or _stem(otherwise) or "value"
        name, count = stem, 0
        while name in self._taken or keyword.iskeyword(name) or keyword.issoftkeyword(name):
            count += 1
            name = f"{stem}_{count}"
        self._taken.add(name)
        return name


def _stem(text: str) -> str:
    """ASCII letters, digits and single underscores; "layer1/layer1.0/conv" reads layer1_0_conv."""
    parts: list[str] = []
    for part in text[:1024].split("/"):
        if parts and part.startswith(parts[-1] + "."):
            parts.pop()
        parts.append(part)
    stem = _PLAIN.sub("_", "_".join(parts))[-LONGEST:].strip("_")
    return f"n{stem}" if stem[:1].isdigit() else stem


def comment(text: str) -> str:
    """`text` fit for a comment or a docstring: one line without quotes, backslashes or control characters."""
    return _COMMENT.sub("_", text[:200])


def literal(value: object) -> str:
    """A number, a flag, or a tuple of them, as Python source.

    Raises:
        GraphError: it is something else.
    """
    if isinstance(value, bool):
        return repr(value)
    if isinstance(value, int):
        return repr(int(value))
    if isinstance(value, float):
        if math.isfinite(value):
            return repr(float(value))
        return "math.nan" if math.isnan(value) else "math.inf" if value > 0 else "-math.inf"
    if isinstance(value, tuple | list):
        inside = ", ".join(literal(item) for item in value)
        return f"({inside},)" if len(value) == 1 else f"({inside})"
    raise GraphError(f"a value of type {type(value).__name__} cannot be written")


def short(values: tuple[int, ...]) -> str:
    """One number where all axes agree, a tuple otherwise, as torch takes both."""
    return literal(values[0]) if values and len(set(values)) == 1 else literal(values)
