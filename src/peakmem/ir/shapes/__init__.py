"""Shapes and dtypes of every tensor from those of the inputs: rules per operator, one pass.

`infer` walks the schedule once. An operator is understood by the first of: a rule of ours, the
fallback a front end gives (ONNX's own inference), the shape the file declares. What none of them
tells is recorded as Unknown, never guessed.
"""

from peakmem.ir.shapes import elementwise, movement, neural
from peakmem.ir.shapes.call import RULES, Call, Spec, Specs, Unresolved, rule
from peakmem.ir.shapes.infer import Fallback, bind, infer, infer_operator, unbound

__all__ = [
    "RULES",
    "Call",
    "Fallback",
    "Spec",
    "Specs",
    "Unresolved",
    "bind",
    "elementwise",
    "infer",
    "infer_operator",
    "movement",
    "neural",
    "rule",
    "unbound",
]
