"""How a model reaches an engine's format: locally, in steps that can be seen, each in a clean child process.

    convert("mobilenet_v2", "ncnn").path

No tool of another project is imported here; what was made is kept by the content it was made from.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from peakmem.conversion.route import Converted, convert, kind_of, steps

_HOMES = dict.fromkeys(("Converted", "convert", "kind_of", "steps"), "peakmem.conversion.route")

__all__ = ["Converted", "convert", "kind_of", "steps"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
