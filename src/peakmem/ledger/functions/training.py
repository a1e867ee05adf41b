"""Functions on a training step: traced, or by closed forms."""

from __future__ import annotations

from fractions import Fraction

from peakmem.errors import UsageError
from peakmem.ledger.functions.registry import Scope, function, text, value
from peakmem.ledger.steps import most
from peakmem.ledger.value import Item, nbytes
from peakmem.report.training import Route

GROUP = "a training step"
PARTS = {
    "parameters": "parameter", "gradients": "gradient", "optimizer": "optimizer state", "saved": "saved activation",
    "activations": "saved activation", "temporaries": "temporary", "inputs": "input", "buffers": "buffer",
    "workspaces": "kernel workspace",
}  # fmt: skip
ROUTES: tuple[Route, ...] = ("trace", "graph")


@function(
    'train("peak", optimizer="adam", batch=32)',
    "bytes of a step's tensors: peak, end (held when it ends), " + ", ".join(PARTS) + " (the most of each at any "
    'moment), reserved or allocated (device="cuda"); route="trace" runs PyTorch\'s own code on tensors without memory',
    GROUP,
)
def train(scope: Scope, what: Item = "peak", route: Item = "graph") -> Item:
    """One figure of a step."""
    wanted = text(what, "what of a step", ("peak", "end", "reserved", "allocated", *PARTS))
    log = scope.figures.log(scope.context, text(route, "the route", ROUTES))
    if wanted == "peak":
        from peakmem.training.account import peak

        top = peak(log)
        return nbytes(top.nbytes, "estimate", top.operator)
    if wanted == "end":
        from peakmem.training.shares import at_end_of_steps

        return nbytes(sum(list(at_end_of_steps(log))[-1][1].values()))
    if wanted in ("reserved", "allocated"):
        if scope.context.device != "cuda":
            raise UsageError(f"{wanted} is of the CUDA allocator", hint='device="cuda"')
        from peakmem.training.allocator import simulate

        found = simulate(log, bound=False)
        return nbytes((found.reserved if wanted == "reserved" else found.allocated).nbytes)
    return nbytes(most(log, PARTS[wanted]))


@function(
    'closed_form("adam-4w", batch=32)',
    "bytes by a published rule of thumb, from the graph's counts: parameters, feature maps of the batch; ranks=, "
    "parameters=, feature_maps=, and for transformers layers=, hidden=, heads=, sequence=, vocabulary= set them",
    GROUP,
)
def closed_form(
    scope: Scope, name: Item, part: Item = "", parameters: Item = None, feature_maps: Item = None,  # type: ignore[assignment]
    ranks: Item = None, largest_layer: Item = None, layers: Item = None, hidden: Item = None, heads: Item = None,  # type: ignore[assignment]
    sequence: Item = None, vocabulary: Item = None,  # type: ignore[assignment]
) -> Item:  # fmt: skip
    """A rule of thumb."""
    from peakmem.training.formulas import FORMULAS, Facts, Shape

    form = FORMULAS[text(name, "the rule", tuple(FORMULAS))]
    batch = scope.context.batch or 1
    sizes = [None if one is None else int(value(one, "a size").number) for one in (layers, hidden, heads, sequence)]
    shape = None
    if all(size is not None for size in sizes):
        shape = Shape(
            layers=sizes[0] or 0, hidden=sizes[1] or 0, heads=sizes[2] or 0, sequence=sizes[3] or 0, batch=batch,
            vocabulary=_given(vocabulary, 0),
        )  # fmt: skip
    named = bool(scope.context.network)
    stored = scope.figures.stored(scope.context) if named else None
    maps = scope.figures.convention("sum_outputs", scope.context).number if named else Fraction(0)
    largest = (
        max((one.parameters for one in scope.figures.study(scope.context).layers("eager")), default=0) if named else 0
    )
    facts = Facts(
        parameters=_given(parameters, stored.trainable if stored is not None else 0), batch=batch,
        feature_map_bytes=_given(feature_maps, int(maps)), largest_layer=_given(largest_layer, largest),
        ranks=_given(ranks, 1), shape=shape,
    )  # fmt: skip
    if not facts.parameters:
        raise UsageError(f"{form.name} needs a network", expected="context: {network: …} or parameters=…")
    missing = form.missing(facts)
    if missing:
        raise UsageError(f"{form.name} needs {missing}", expected="layers=, hidden=, heads=, sequence=")
    found = form.compute(facts)
    wanted = text(part, "the part")
    if wanted and wanted not in dict(found.parts):
        raise UsageError(f"{form.name} has no part {wanted!r}", expected=f"one of {', '.join(dict(found.parts))}")
    return nbytes(found.part(wanted) if wanted else found.nbytes, "estimate")


def _given(item: Item, usual: int) -> int:
    return usual if item is None else int(value(item, "a count").number)
