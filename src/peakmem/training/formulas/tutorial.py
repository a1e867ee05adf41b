"""What the tutorial "Efficiency Metrics Part 2: Memory Metrics for Deep Learning" (2024) says on training."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

from peakmem.training.formulas import budget
from peakmem.training.formulas.budget import MB
from peakmem.training.formulas.statement import Statement, Traced, mb, percent, saved
from peakmem.training.formulas.unet import levels


def _line(name: str) -> Callable[[Traced], str]:
    line = next(item for item in (*budget.V100, budget.V100_BUFFER, budget.V100_TOTAL) if item.name == name)
    return lambda _: f"{line.printed:,} of 16,000: {float(budget.check(line).share):.4f} %"


def _ceilings(traced: Traced) -> str:
    own = budget.v100_ceiling()
    fixed = 3 * traced.resnet50_parameters + budget.adam_state_bytes(0, traced.resnet50_tensors)
    fixed += traced.resnet50_parameters + 1000 * MB
    ours = budget.batch_ceiling(16000 * MB, fixed, Fraction(traced.resnet50_saved_32, 32))
    return f"{own} by its own numbers; {ours} with {mb(Fraction(traced.resnet50_saved_32, 32))} an image"


def _encoder(_: Traced) -> str:
    return " > ".join(f"{item / MB:.1f}" for item in levels().encoder) + " MB"


def _bottleneck(_: Traced) -> str:
    found = levels()
    return f"bottleneck {found.encoder[-1] / MB:.1f} MB, first level {found.encoder[0] / MB:.1f} MB"


TUTORIAL: tuple[Statement, ...] = (
    Statement(
        "S3-51",
        "Total activations: ~5 GB for batch of 32 (ResNet-50)",
        lambda t: mb(t.resnet50_saved_32),
        "wrong",
        "what backward needs is about half of it; 5 GB is nearer to every operator's output",
        ("resnet50_saved_32",),
    ),
    Statement(
        "S3-52",
        "Activation memory grows linearly with batch size",
        lambda t: (
            f"{mb(t.resnet50_saved_32)} at 32, {mb(t.resnet50_saved_64)} at 64: "
            f"× {float(Fraction(t.resnet50_saved_64, t.resnet50_saved_32)):.3f}"
        ),
        "right",
        "what belongs to samples does; statistics of norms and workspaces do not",
        ("resnet50_saved_32", "resnet50_saved_64"),
    ),
    Statement("S3-53", "arbitrarily large batches run out of memory", _ceilings, "right", "", ("resnet50_saved_32",)),
    Statement("S3-54", "peak: the maximum memory needed at any single point", lambda _: "peak", "right", ""),
    Statement(
        "S3-55",
        "peak activations determine minimum GPU memory",
        lambda t: f"step {mb(t.resnet50_step_32)}, of it activations {mb(t.resnet50_saved_32)}",
        "depends",
        "necessary, not sufficient: parameters, gradients, state and workspaces are there, too",
        ("resnet50_step_32", "resnet50_saved_32"),
    ),
    Statement(
        "S3-56",
        "U-Net encoder: memory increases as channels grow",
        _encoder,
        "wrong",
        "channels double and the area falls to a quarter: each level's map is half of the one before",
    ),
    Statement(
        "S3-57",
        "U-Net bottleneck: peak memory usage (largest feature maps)",
        _bottleneck,
        "wrong",
        "the smallest map; the peak is at the last concatenation",
    ),
    Statement(
        "S3-58",
        "U-Net decoder: memory decreases as resolution grows",
        lambda _: " < ".join(f"{item / MB:.1f}" for item in levels().decoder) + " MB",
        "wrong",
        "it grows",
    ),
    Statement(
        "S3-59",
        "U-Net skips: must keep encoder activations in memory",
        lambda _: f"{mb(sum(levels().encoder[:-1]))} until each is joined",
        "right",
        "",
    ),
    Statement(
        "S3-60",
        "U-Net skips increase peak significantly",
        lambda _: f"{levels().without_skips_bytes / MB:.1f} → {levels().peak_bytes / MB:.1f} MB for one image",
        "right",
        "without gradients; a training step keeps all maps anyway",
    ),
    Statement(
        "S3-61",
        "Store only checkpoints: 5 GB → 1 GB (80% reduction)",
        lambda t: (
            f"step {saved(t, 'resnet50_step_32', 'resnet50_recompute_32')}; activations "
            f"{saved(t, 'resnet50_saved_32', 'resnet50_recompute_activations_32')}"
        ),
        "depends",
        "each block of ResNet-50 recomputed saves less; the arithmetic is right",
        ("resnet50_step_32", "resnet50_recompute_32", "resnet50_saved_32", "resnet50_recompute_activations_32"),
    ),
    Statement(
        "S3-62",
        "100 ms → 150 ms (50% slower)",
        lambda t: (
            f"one more forward beside a backward of two: + {percent(1, 3)}"
            + (f"; timed × {float(t.recompute_time):.2f}" if t.recompute_time else "")
        ),
        "depends",
        "a third by operations; what it takes depends on the machine",
    ),
    Statement("S3-63", "checkpointing: when memory is the bottleneck, not speed", lambda _: "–", "right", ""),
    Statement(
        "S3-64",
        "Mixed precision: 50% reduction of activations",
        lambda t: (
            f"saved {saved(t, 'resnet50_saved_32', 'resnet50_amp_saved_32')}; step "
            f"{saved(t, 'resnet50_step_32', 'resnet50_amp_step_32')}"
        ),
        "depends",
        "indices of pooling stay, 16-bit copies of weights come; parameters and state are as before",
        ("resnet50_saved_32", "resnet50_amp_saved_32", "resnet50_step_32", "resnet50_amp_step_32"),
    ),
    Statement("S3-65", "Mixed precision: 2-3x faster", lambda _: "–", "not computed", "time is not computed"),
    Statement(
        "S3-66",
        "Batch 64: 10 GB, batch 32: 5 GB",
        lambda t: f"{mb(t.resnet50_saved_64)} and {mb(t.resnet50_saved_32)}",
        "depends",
        "the proportion is right, the size is not",
        ("resnet50_saved_32", "resnet50_saved_64"),
    ),
    Statement(
        "S3-67",
        "batch 32: fits on GPU! (64 by implication not)",
        lambda _: f"batch 64 by the table: {sum(x.printed for x in budget.V100) + 5000:,} of 16,000 MB",
        "depends",
        "64 fits by the text's own numbers, which it says itself further down",
    ),
    Statement(
        "S3-69",
        "Model parameters (FP32): 98 MB (0.6%)",
        lambda t: (
            f"{t.resnet50_parameters:,} B = {t.resnet50_parameters / MB:.3f} MB = "
            f"{t.resnet50_parameters / budget.MIB:.3f} MiB; {_line('Model parameters (FP32)')(t)}"
        ),
        "depends",
        "98 are MiB, rounded up, in a table of decimal MB; the percentage follows",
    ),
    Statement(
        "S3-70",
        "Optimizer state (Adam): 196 MB (1.2%)",
        lambda t: (
            f"{budget.adam_state_bytes(t.resnet50_parameters, t.resnet50_tensors):,} B; "
            f"{_line('Optimizer state (Adam)')(t)}"
        ),
        "right",
        "twice the parameters; torch adds a counter of 4 bytes for each tensor; MiB as above",
    ),
    Statement(
        "S3-71",
        "Gradients: 98 MB (0.6%)",
        lambda t: f"{t.resnet50_parameters:,} B; {_line('Gradients')(t)}",
        "right",
        "as many as parameters; MiB as above",
    ),
    Statement(
        "S3-72",
        "Activations (batch=32): 5,000 MB (31.3%)",
        lambda t: f"{_line('Activations (batch=32)')(t)}; traced {mb(t.resnet50_saved_32)}",
        "wrong",
        "the percentage is that of the printed size (31.25, rounded up); the size is not ResNet-50's",
        ("resnet50_saved_32",),
    ),
    Statement(
        "S3-73",
        "Framework overhead: 1,000 MB (6.3%)",
        _line("Framework overhead"),
        "not computed",
        "an assumption: context and libraries depend on GPU and driver; 6.25 rounded up",
    ),
    Statement(
        "S3-74",
        "Available buffer: 9,608 MB (60%)",
        lambda _: "; ".join(f"{item.free_bytes // item.unit_bytes:,} {item.unit}" for item in budget.readings()),
        "depends",
        "of 16,000 MB; the card's memory is 16 GiB, of which a part is the driver's",
    ),
    Statement(
        "S3-75",
        "Total used: 6,392 MB (40%)",
        lambda t: (
            f"{sum(x.printed for x in budget.V100):,}: {percent(6392, 16000)}; traced "
            f"{mb(t.resnet50_step_32 + 1000 * MB)} with the same overhead"
        ),
        "right",
        "the rows sum to it",
        ("resnet50_step_32",),
    ),
    Statement(
        "S3-76",
        "NVIDIA V100 (16GB memory)",
        lambda _: f"{16 * budget.GIB:,} B = {16 * budget.GIB // MB:,} MB",
        "right",
        "16 GiB by NVIDIA's count; a process sees a little less",
    ),
    Statement(
        "S3-77",
        "Can fit batch size 32 comfortably",
        lambda t: f"{mb(t.resnet50_step_32 + 1000 * MB)} of {mb(16 * budget.GIB)}",
        "right",
        "",
        ("resnet50_step_32",),
    ),
    Statement(
        "S3-78",
        "Available buffer stands above Total used",
        lambda _: f"rows above the total sum to {sum(x.printed for x in budget.V100) + 9608:,}",
        "wrong",
        "the buffer is not part of what is used; with it the rows are the whole card",
    ),
    Statement(
        "S3-79",
        "Could potentially increase to 48-64",
        _ceilings,
        "right",
        "far more fits by its own numbers",
        ("resnet50_saved_32",),
    ),
    Statement(
        "S3-83",
        "checkpointing, mixed precision and smaller batches reduce memory significantly",
        lambda t: (
            f"{mb(t.resnet50_step_32)}; {mb(t.resnet50_recompute_32)}, {mb(t.resnet50_amp_step_32)}, "
            f"{mb(t.resnet50_step_8)} (batch 8)"
        ),
        "right",
        "",
        ("resnet50_step_32", "resnet50_recompute_32", "resnet50_amp_step_32", "resnet50_step_8"),
    ),
)
