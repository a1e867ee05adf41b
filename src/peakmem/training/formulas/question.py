"""What the question "What is the memory cost of a CNN?" (Data Science Stack Exchange, 2017) says on training."""

from __future__ import annotations

from peakmem.training.formulas import budget
from peakmem.training.formulas.statement import Statement, Traced, mb, percent


def _four_weights(traced: Traced) -> str:
    one = budget.four_weights(traced.vgg16_parameters, traced.vgg16_feature_maps).nbytes
    many = budget.four_weights(traced.vgg16_parameters, 32 * traced.vgg16_feature_maps).nbytes
    return f"VGG16, batch 1: {_against(one, traced.vgg16_step_1)}; batch 32: {_against(many, traced.vgg16_step_32)}"


def _against(nbytes: int, traced: int) -> str:
    return f"{mb(nbytes)} against {mb(traced)} ({percent(nbytes - traced, traced)})"


QUESTION: tuple[Statement, ...] = (
    Statement(
        "S4-02",
        "How much memory does VGG-16 D need for training?",
        lambda t: f"batch 1, Adam: {mb(t.vgg16_step_1)}",
        "right",
        "a question; answered",
        ("vgg16_step_1",),
    ),
    Statement("S4-04", "footprint: the maximum amount of memory at any point", lambda _: "peak", "right", ""),
    Statement(
        "S4-05",
        "2w: weights and weight updates",
        lambda t: f"{mb(t.vgg16_parameters)} and, as first moment, {mb(t.vgg16_parameters)}",
        "depends",
        "updates are applied in place; the second w is Adam's first moment",
    ),
    Statement(
        "S4-06",
        "B × size of all generated feature maps",
        lambda t: f"VGG16: {mb(t.vgg16_feature_maps)} an image",
        "depends",
        "which maps is not said: in-place activations, dropout masks, pooling indices",
        ("vgg16_feature_maps",),
    ),
    Statement(
        "S4-07",
        "w: gradients",
        lambda t: f"{t.vgg16_parameters:,} B",
        "right",
        "one for each weight; they are there with the optimizer's temporaries, not with all feature maps",
    ),
    Statement(
        "S4-08",
        "w: learning rates for each weight (Adam)",
        lambda t: f"2 × {t.vgg16_parameters:,} B of moments",
        "wrong",
        "Adam keeps two moments; with the second w above, which is none of what it says, the sum is right",
    ),
    Statement(
        "S4-09",
        "4w + B × feature maps is the maximum",
        _four_weights,
        "depends",
        "no optimizer temporaries, masks, indices or workspaces; gradients and all maps are not there at once",
        ("vgg16_feature_maps", "vgg16_step_1", "vgg16_step_32"),
    ),
    Statement(
        "S4-14",
        "Total RAM would be batch size × RAM to train one image",
        lambda t: f"parameters alone at batch 32: {mb(32 * t.vgg16_parameters)} instead of {mb(t.vgg16_parameters)}",
        "wrong",
        "parameters, gradients and state do not grow with the batch",
    ),
    Statement("S4-15", "since backpropagation happens after the batch", lambda _: "–", "right", "of activations"),
    Statement(
        "S4-16",
        "A/ 4 bytes × number of parameters",
        lambda t: f"{t.vgg16_parameters:,} B once; 4 × that with Adam",
        "depends",
        "right as a size, wrong inside a sum that is multiplied by the batch",
    ),
)
