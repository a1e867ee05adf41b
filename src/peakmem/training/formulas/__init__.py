"""Closed forms of training memory as papers, tools and tutorials state them, each with what it leaves out.

Plain arithmetic on counts: a traced answer is for knowing, these are for seeing how far each is from it. No torch.
"""

from peakmem.training.formulas.answer import Answer, Formula
from peakmem.training.formulas.facts import Facts, facts_of, saved_bytes
from peakmem.training.formulas.question import QUESTION
from peakmem.training.formulas.registry import FORMULAS
from peakmem.training.formulas.shape import Shape
from peakmem.training.formulas.statement import Statement, Traced, shown
from peakmem.training.formulas.tutorial import TUTORIAL

STATEMENTS = (*TUTORIAL, *QUESTION)

__all__ = [
    "FORMULAS",
    "STATEMENTS",
    "Answer",
    "Facts",
    "Formula",
    "Shape",
    "Statement",
    "Traced",
    "facts_of",
    "saved_bytes",
    "shown",
]
