"""What recompute costs: floating point operations of a transformer's step, matrix products alone.

A multiplication and an addition are two operations. One layer's forward takes 24bsh² for the four projections and the
feed-forward part, and 4bs²h for the scores and their product with the values; a backward takes twice its forward.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from peakmem.training.formulas.activations import Recompute
from peakmem.training.formulas.shape import Shape


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of one step of one micro-batch."""

    model: int
    # what the step needs
    repeated: int
    # what recompute adds

    @property
    def overhead(self) -> Fraction:
        """Repeated over needed."""
        return Fraction(self.repeated, self.model)


def step_flops(shape: Shape, recompute: Recompute = "none", *, every: int = 1) -> Flops:
    """72bLsh²(1 + s/6h + V/12hL) for a plain transformer, and what recompute repeats of it.

    Full recompute repeats the layers' forward: in all 96bLsh²(1 + s/6h) + 6bshV (Narayanan et al. 2021,
    arXiv:2104.04473, equation 3). Selective recompute repeats the scores and their product, 4bs²h a layer: s/18h of
    72bLsh². Appendix A of arXiv:2205.05198 counts s/6h, as if their backward were repeated, too. `every` k-th layer
    only: L/k layers are recomputed.
    """
    tokens = shape.sequence * shape.batch
    matrices = layer_matrix_flops(shape)
    core = 4 * shape.batch * shape.sequence**2 * shape.query
    output = 2 * tokens * shape.hidden * shape.vocabulary
    model = 3 * (shape.layers * (matrices + core) + output)
    layers = -(-shape.layers // every)
    repeated = {"none": 0, "selective": layers * core, "full": layers * (matrices + core)}[recompute]
    return Flops(model, repeated)


def layer_matrix_flops(shape: Shape) -> int:
    """Forward of one layer's projections and feed-forward part: 24bsh² where the inner width is 4h."""
    weights = 2 * shape.hidden * (shape.query + shape.key) + (3 if shape.gated else 2) * shape.hidden * shape.inner
    return 2 * shape.sequence * shape.batch * weights


def chain_overhead(forward: int, backward: int, repeated: int | None = None) -> Fraction:
    """Repeated forwards over a step, for any network: 1/3 where a backward is twice a forward and all is repeated."""
    return Fraction(forward if repeated is None else repeated, forward + backward)
