"""Shapes and dtypes of every tensor from those of the inputs: rules per operator, one pass.

`infer` walks the schedule once. An operator is understood by the first of: a rule of ours, the
fallback a front end gives (ONNX's own inference), the shape the file declares. What none of them
tells is recorded as Unknown, never guessed.
"""

from peakmem.ir.shapes.call import Call, Spec, Specs, Unresolved, rule
from peakmem.ir.shapes.infer import Fact, Fallback, bind, infer, infer_operator, unbound
from peakmem.ir.shapes.rules import all_rules

__all__ = [
    "Call",
    "Fact",
    "Fallback",
    "Spec",
    "Specs",
    "Unresolved",
    "all_rules",
    "bind",
    "infer",
    "infer_operator",
    "rule",
    "unbound",
]
