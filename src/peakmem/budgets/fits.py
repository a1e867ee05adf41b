"""What `peakmem fit` says of a device, as one finding."""

from __future__ import annotations

from peakmem.budgets.config import FitBudget
from peakmem.report.check import Finding, Outcome
from peakmem.report.fit import Fit, Part
from peakmem.units import format_bytes, format_exact

SHOWN = 3
# changes that would make it fit
OUTCOMES: dict[str, Outcome] = {"fits": "within", "does not fit": "broken"}
# all else is unanswered: "may fit" proves nothing


def judged_fit(found: Fit, place: FitBudget, source: str) -> Finding:
    """The finding of one device; its numbers are those of the part that is nearest to its capacity."""
    worst = max(found.parts, key=lambda part: part.needed_bytes / max(part.capacity_bytes, 1), default=None)
    outcome = OUTCOMES.get(found.outcome, "unanswered")
    said = f"{found.title or found.device}: {found.outcome}"
    if found.parts:
        said += f"; {'; '.join(_part(part) for part in found.parts)}"
    elif found.unknowns:
        said += f"; {found.unknowns[0]}"
    cheap = sorted((one for one in found.changes if one.rank > 0), key=lambda one: one.rank)[:SHOWN]
    why = tuple(f"it would fit with {one.title} ({one.price})" for one in cheap)
    return Finding(
        "", "fits", "fits", outcome, said, place.device, place.line, "bytes", worst.needed_bytes if worst else None,
        worst.capacity_bytes if worst else None, None, worst.kind if worst else "", worst.convention if worst else "",
        why if outcome != "within" else (), "" if outcome == "within" else _hint(found, source, place.device),
    )  # fmt: skip


def _hint(found: Fit, source: str, device: str) -> str:
    verb = "train" if found.mode == "training" else "fit"
    return f"peakmem {verb} {source} --device {device}"


def _part(part: Part) -> str:
    gap = part.headroom_bytes
    left = f"headroom {format_bytes(gap)}" if gap >= 0 else f"over by {format_bytes(-gap)}"
    return (
        f"{part.name} {format_exact(part.needed_bytes)} of {format_exact(part.capacity_bytes)} "
        f"[{part.convention}; {part.kind}]: {left}"
    )
