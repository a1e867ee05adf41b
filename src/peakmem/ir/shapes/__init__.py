"""Shapes and dtypes of every tensor from those of the inputs: rules per operator, one pass.

`infer` walks the schedule once. An operator is understood by the first of: a rule of ours, the
fallback a front end gives (ONNX's own inference), the shape the file declares. What none of them
tells is recorded as Unknown, never guessed.
"""

from peakmem.ir.shapes import (
    attention,
    classical,
    elementwise,
    indexing,
    making,
    microsoft,
    movement,
    neural,
    products,
    quantized,
    resize,
    signal,
    slicing,
    strings,
    vision,
    windows,
)
from peakmem.ir.shapes.call import RULES, Call, Spec, Specs, Unresolved, rule
from peakmem.ir.shapes.infer import Fact, Fallback, bind, infer, infer_operator, unbound

__all__ = [
    "RULES",
    "Call",
    "Fact",
    "Fallback",
    "Spec",
    "Specs",
    "Unresolved",
    "attention",
    "bind",
    "classical",
    "elementwise",
    "indexing",
    "infer",
    "infer_operator",
    "making",
    "microsoft",
    "movement",
    "neural",
    "products",
    "quantized",
    "resize",
    "rule",
    "signal",
    "slicing",
    "strings",
    "unbound",
    "vision",
    "windows",
]
