"""The table of layer classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from peakmem.frontends.keras.graph import LayerCall

Writer: TypeAlias = Callable[[LayerCall], str | list[str]]
LAYERS: dict[str, Writer] = {}
# by class name


def layer(*class_names: str) -> Callable[[Writer], Writer]:
    """Register the decorated function for each of `class_names`."""

    def register(function: Writer) -> Writer:
        for class_name in class_names:
            if class_name in LAYERS:
                raise ValueError(f"two writers for {class_name}")
            LAYERS[class_name] = function
        return function

    return register
