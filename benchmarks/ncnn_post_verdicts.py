"""The claims of the article, judged: a rule for each, computed from the figures of ncnn_post_figures.py.

Nothing here is typed in but the rules and their bounds. The sentence of a verdict is written from the figures that it
was computed from; where one is missing the answer is "cannot be told".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from ncnn_post_figures import (
    LEAST,
    MEGA,
    NEAR,
    Article,
    Result,
    freed,
    growth,
    highs,
    margin,
    mib,
    reading,
    reproduced,
)

ROUGHLY = 0.5
# "roughly 10M" is kept by anything from 5 to 15 of either unit
ORDER = 10.0
# an order of magnitude

Word = Literal["holds", "holds in part", "does not hold", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a claim holds."""

    claim: str
    word: Word
    because: str


def verdicts(results: Sequence[Result], post: Article) -> Iterator[Verdict]:
    """One verdict for each claim, in the order of the article's file."""
    titles = {one.name: one.title for one in post.networks}
    for name, claim in post.claims.items():
        word, because = _RULES[name](results, post, titles)
        yield Verdict(claim, word, because)


Titles = Mapping[str, str]
Answer = tuple[Word, str]
UNKNOWN = "the cells that it takes were not measured"


def _named(results: Iterable[Result], titles: Mapping[str, str]) -> str:
    return ", ".join(titles.get(one.name, one.name) for one in results)


def _range(values: Iterable[int]) -> str:
    ordered = sorted(values)
    return mib(ordered[0]) if ordered[0] == ordered[-1] else f"{mib(ordered[0])} to {mib(ordered[-1])}"


def _having(results: Iterable[Result], *cells: str) -> list[Result]:
    return [one for one in results if all(cell in one.cells for cell in cells)]


def _toggled(results: Iterable[Result], post: Article, *cells: str) -> Result | None:
    return next((one for one in _having(results, *cells) if one.name == post.toggled), None)


def _counted(good: int, of: int) -> Word:
    if not of:
        return "cannot be told"
    return "holds" if good == of else "holds in part" if good else "does not hold"


def _percent(part: int, whole: int) -> str:
    return f" ({part / whole:.0%})" if whole > 0 else ""


def _direction(results: Sequence[Result], _post: Article, titles: Titles) -> Answer:
    """Light mode lowers the heap's highest point in every network."""
    known = _having(results, "defaults", "light off")
    saved = {one.name: one.cells["light off"].heap_peak - one.cells["defaults"].heap_peak for one in known}
    lower = [
        one for one in known if saved[one.name] > margin("heap", one.cells["light off"], one.cells["defaults"])
    ]  # fmt: skip
    if not known:
        return "cannot be told", UNKNOWN
    least, most = min(known, key=lambda one: saved[one.name]), max(known, key=lambda one: saved[one.name])
    return _counted(len(lower), len(known)), (
        f"The heap's peak is lower in {len(lower)} of {len(known)} networks, by {mib(saved[least.name])} "
        f"({titles[least.name]}) to {mib(saved[most.name])} ({titles[most.name]})"
    )


def _saving(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """Of the network that was toggled, light mode lowers VmPeak by about what is stated, and so do the rows of top."""
    one = _toggled(results, post, "defaults", "light off")
    if one is None:
        return "cannot be told", UNKNOWN
    light, off = one.cells["defaults"], one.cells["light off"]
    heap, virtual = off.heap_peak - light.heap_peak, off.vm_peak.median - light.vm_peak.median
    resident = off.rss_peak.median - light.rss_peak.median
    stated = post.stated["saving"]
    own = {name: post.rows[0].sizes[name] - post.rows[1].sizes[name] for name in ("VIRT", "RES")}
    fits = [
        any(abs(saved / size - stated) <= ROUGHLY * stated for size in MEGA.values())
        for saved in (virtual, own["VIRT"])
    ]
    return _counted(sum(fits), len(fits)), (
        f"{titles[one.name]}: {mib(heap)} of heap, {mib(virtual)} of VmPeak, {mib(resident)} resident. The article's "
        f"own rows of top differ by {own['VIRT'] >> 10:,} KiB in VIRT and {own['RES'] >> 10:,} KiB in RES, which are "
        f"{mib(own['VIRT'])} and {mib(own['RES'])}"
    )


def _cause(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """What light mode saves during runs is blobs and workspace, and none of it weights."""
    known = _having(results, "defaults", "light off")
    if not known:
        return "cannot be told", UNKNOWN
    margins = {one.name: margin("heap", one.cells["defaults"], one.cells["light off"]) for one in known}
    saved = {one.name: one.cells["light off"].runs_peak - one.cells["defaults"].runs_peak for one in known}
    weights = [one for one in known if freed(one) > margins[one.name]]
    maps = [one for one in known if saved[one.name] - freed(one) > margins[one.name]]
    share = [freed(one) / saved[one.name] for one in weights if saved[one.name] > 0]
    text = f"Blobs and workspace are part of what is saved during runs in {len(maps)} of {len(known)} networks, "
    text += f"and weights given back after repacking in {len(weights)}"
    if share:
        text += f" ({min(share):.0%} to {max(share):.0%} of it)"
    one = _toggled(known, post, "defaults")
    if one is not None:
        whole, part = saved[one.name], freed(one)
        text += (
            f". {titles[one.name]}: of {whole:,} B, {part:,} B{_percent(part, whole)} are weights (its kernels and "
            f"matrices are {one.weights:,} B) and {whole - part:,} B are blobs and workspace"
        )
        if set(one.blobs) == {True, False}:
            pools = one.blobs[False].pools - one.blobs[True].pools
            text += (
                f"; ncnn's own allocators tell {pools:,} B for the latter (blobs live at once: "
                f"{one.blobs[False].blobs:,} B without light mode, {one.blobs[True].blobs:,} B with it)"
            )
    return ("holds" if not weights else "holds in part" if maps else "does not hold"), text


def _changes(results: Iterable[Result], cell: str, base: str = "defaults") -> dict[str, tuple[int, bool]]:
    """By network: how the heap's peak changes from `base` to `cell`, and whether it does by more than the margin.

    VmPeak is no criterion: it moves with the layout of the heap, which repeated processes do not show.
    """
    found = {}
    for one in results:
        old, new = one.cells[base], one.cells[cell]
        moved = new.heap_peak - old.heap_peak
        found[one.name] = moved, abs(moved) > margin("heap", old, new)
    return found


def _fp16(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """The fp16 options do not change the heap's peak of any network."""
    known = _having(results, "defaults", "fp16 off")
    if not known:
        return "cannot be told", UNKNOWN
    changed = _changes(known, "fp16 off")
    same = [one for one in known if not changed[one.name][1]]
    text = f"Without the fp16 options the heap's peak is another in {len(known) - len(same)} of {len(known)} networks"
    more = [one for one in known if one not in same]
    if more:
        text += ", higher by " + _range(changed[one.name][0] for one in more)
        storage = _having(more, "fp16 storage off")
        alike = [
            one for one in storage
            if abs(one.cells["fp16 storage off"].load - one.cells["fp16 off"].load) <= LEAST
            and abs(one.cells["fp16 off"].load - one.cells["defaults"].load - one.products // 2) <= LEAST
        ]  # fmt: skip
        if storage:
            text += (
                f". In {len(alike)} of {len(storage)} of them fp16_storage alone does it, and what it saves after load "
                f"is half the bytes of the inner products' weights (within {LEAST >> 10} KiB)"
            )
    toggled = _toggled(known, post, "fp16 off")
    if toggled is not None:
        old, new = toggled.cells["defaults"], toggled.cells["fp16 off"]
        text += (
            f". {titles[toggled.name]}: heap peak {new.heap_peak:,} B without them, {old.heap_peak:,} B with them; "
            f"VmPeak {mib(new.vm_peak.median)} and {mib(old.vm_peak.median)}"
        )
    return _counted(len(same), len(known)), text


def _paired(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """Light mode saves nothing without the fp16 options."""
    known = _having(results, "defaults", "light off", "fp16 off", "light off, fp16 off")
    if not known:
        return "cannot be told", UNKNOWN
    without = {one.name: one.cells["light off, fp16 off"].heap_peak - one.cells["fp16 off"].heap_peak for one in known}
    needs = [
        one for one in known
        if without[one.name] <= margin("heap", one.cells["light off, fp16 off"], one.cells["fp16 off"])
    ]  # fmt: skip
    alone = len(known) - len(needs)
    text = f"Light mode lowers the heap's peak without the fp16 options, too, in {alone} of {len(known)} networks"
    one = _toggled(known, post, "fp16 off")
    if one is not None:
        both = one.cells["light off"].heap_peak - one.cells["defaults"].heap_peak
        text += f". {titles[one.name]}: by {mib(without[one.name])} without them, by {mib(both)} with them"
    same = post.rows[1].sizes["VIRT"] == post.rows[2].sizes["VIRT"]
    text += f". The article's own rows with and without fp16 are {'equal' if same else 'not equal'} in VIRT"
    return _counted(len(needs), len(known)), text


def _precision(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """No option of precision moves the heap of any network."""
    known = _having(results, "defaults", "fp16 off", "bf16 storage on")
    if not known:
        return "cannot be told", UNKNOWN
    moved = {name: _changes(known, name) for name in ("fp16 off", "bf16 storage on")}
    free = [one for one in known if not any(moved[name][one.name][1] for name in moved)]
    text = f"Of {len(known)} networks {len(free)} are moved neither by fp16 nor by bf16_storage"
    one = _toggled(known, post, "defaults")
    if one is not None:
        old, new = one.cells["defaults"], one.cells["bf16 storage on"]
        more = new.heap_peak - old.heap_peak
        text += (
            f". {titles[one.name]}: with bf16_storage the heap is {mib(old.load - new.load)} smaller after load, and "
            f"its peak {mib(abs(more))} {'higher' if more > 0 else 'lower'}"
        )
    return _counted(len(free), len(known)), text


def _int8(results: Sequence[Result], _post: Article, _titles: Titles) -> Answer:
    """The int8 options do not change the heap's peak of any of these networks, whose weights are fp32."""
    known = _having(results, "defaults", "int8 off")
    if not known:
        return "cannot be told", UNKNOWN
    changed = _changes(known, "int8 off")
    same = [one for one in known if not changed[one.name][1]]
    most = max(abs(nbytes) for nbytes, _ in changed.values())
    return _counted(len(same), len(known)), (
        f"{len(same)} of {len(known)} networks are the same without them; the heap differs by {most:,} B at most. "
        "Their weights are fp32"
    )


def _loop(results: Sequence[Result], _post: Article, titles: Titles) -> Answer:
    """With the defaults, no later run takes the heap above what loading and the first run took, by the margin."""
    known = [one for one in _having(results, "defaults") if len(one.run_peaks("defaults")) > 1]
    if not known:
        return "cannot be told", UNKNOWN
    margins = {one.name: margin("heap", one.cells["defaults"]) for one in known}
    more = {one.name: max(one.run_peaks("defaults")) - one.run_peaks("defaults")[0] for one in known}
    grown = [one for one in known if more[one.name] > margins[one.name]]
    hidden = [
        one for one in grown
        if max(one.run_peaks("defaults")) - one.cells["defaults"].load_peak <= margins[one.name]
    ]  # fmt: skip
    stays = len(known) - len(grown) + len(hidden)
    runs = max(len(one.run_peaks("defaults")) for one in known)
    text = f"In {runs} runs the peak stays in {stays} of {len(known)} networks"
    for one in grown:
        text += f"; {titles[one.name]}'s runs take {mib(more[one.name])} more than the first by run "
        text += f"{highs(one.run_peaks('defaults'))[-1]}" + (", still below its peak at load" if one in hidden else "")
    pools = _having(grown, "pools off")
    flat = [one for one in pools if growth(one.cells["pools off"])[0] <= margin("heap", one.cells["pools off"])]
    if pools:
        text += f". Without ncnn's pools later runs take no more in {len(flat)} of these {len(pools)}"
    for one in _having(results, "light off"):
        peaks = one.run_peaks("light off")
        rises = highs(peaks)
        if len(peaks) > 1 and 2 * rises[-1] > len(peaks):
            text += (
                f". Without light mode {titles[one.name]} reaches {len(rises) - 1} new highs, the last in run "
                f"{rises[-1]} of {len(peaks)}, {mib(peaks[rises[-1] - 1] - peaks[0])} above the first run"
            )
    return _counted(stays, len(known)), text


def _libraries(results: Sequence[Result], post: Article, _titles: Titles) -> Answer:
    """Not to be told: our process has an interpreter. What it holds at its marks stands beside the stated figure."""
    known = _having(results, "defaults")
    if not known:
        return "cannot be told", UNKNOWN
    cell = known[0].cells["defaults"]
    return "cannot be told", (
        "The article's program is not published; ours is a Python process without numpy. Interpreter alone: VmPeak "
        f"{mib(cell.vm['interpreter'])}, resident {mib(cell.rss['interpreter'])}; with ncnn's library loaded and no "
        f"network: {mib(cell.vm['import'])} and {mib(cell.rss['import'])} (article: {post.stated['libraries']}M, of "
        "what is not said)"
    )


def _loaded(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """What is reached after load is all that the process takes: runs add no more than the margin to VmPeak."""
    one = _toggled(results, post, "defaults")
    if one is None:
        return "cannot be told", UNKNOWN
    cell = one.cells["defaults"]
    more = cell.vm_peak.median - cell.vm["load"]
    row = post.rows[1].sizes["VIRT"]
    printed = next(column.vm_peak for column in post.networks if column.name == post.toggled)
    same = reading(printed, row)["MiB"] == 0
    text = (
        f"{titles[one.name]}: VmPeak {mib(cell.vm['load'])} after load, {mib(cell.vm_peak.median)} in the end, so runs "
        f"add {mib(more)}; resident {mib(cell.rss['load'])} at most while loading, {mib(cell.rss_peak.median)} in all"
    )
    text += (
        f". The article's {post.stated['loaded']}M is also its figure for {titles[one.name]} while running: "
        f"{row >> 10:,} KiB of VIRT are {row / 2**20:.1f} MiB or {row / 10**6:.1f} MB"
        + (f", and its table has {printed}" if same else "")
    )
    return ("holds" if more <= margin("vm_peak", cell) else "does not hold"), text


def _inference(results: Sequence[Result], _post: Article, titles: Titles) -> Answer:
    """The heap's highest point falls into a run, not into load."""
    known = _having(results, "defaults")
    if not known:
        return "cannot be told", UNKNOWN
    load = [one for one in known if one.cells["defaults"].phase == "load"]
    text = f"The heap's peak falls into a run in {len(known) - len(load)} of {len(known)} networks"
    if load:
        text += f", and into load in {_named(load, titles)}"
    return _counted(len(known) - len(load), len(known)), text


def _conventions(results: Sequence[Result], _post: Article, titles: Titles) -> Answer:
    """The heap's peak is at least ten times the blobs that live at once."""
    known = [one for one in _having(results, "defaults") if True in one.blobs]
    if not known:
        return "cannot be told", UNKNOWN
    ratio = {one.name: one.cells["defaults"].heap_peak / one.blobs[True].blobs for one in known}
    wide = [one for one in known if ratio[one.name] >= ORDER]
    least, most = min(known, key=lambda one: ratio[one.name]), max(known, key=lambda one: ratio[one.name])
    return _counted(len(wide), len(known)), (
        f"Heap peak over the blobs that live at once: {ratio[least.name]:.1f} ({titles[least.name]}) to "
        f"{ratio[most.name]:.1f} ({titles[most.name]}), {ORDER:g} or more in {len(wide)} of {len(known)} networks"
    )


def _table(results: Sequence[Result], post: Article, titles: Titles) -> Answer:
    """One choice of options brings every network's VmPeak within NEAR of the printed one."""
    cells = reproduced(results, post)
    if not cells:
        return "cannot be told", UNKNOWN
    names = sorted({name for found in cells.values() for name in found}, key=list(titles).index)
    best = max(cells, key=lambda cell: sum(cells[cell].values()))
    good = sum(cells[best].values())
    never = [name for name in names if not any(found.get(name) for found in cells.values())]
    text = (
        f"One choice of options brings at most {good} of {len(names)} networks within {NEAR:.0%} ({best}); the "
        f"defaults bring {sum(cells.get('defaults', {}).values())}"
    )
    if never:
        text += f". None brings {', '.join(titles[name] for name in never)}"
    for column in post.networks:
        filled = next((one for one in _having(results, "defaults") if one.name == column.name), None)
        if not column.vm_peak and filled is not None:
            sizes = sorted(cell.vm_peak.median for cell in filled.cells.values())
            text += (
                f". Its empty cell, {column.title}: {mib(filled.cells['defaults'].vm_peak.median)} with the defaults, "
            )
            text += f"{mib(sizes[0])} to {mib(sizes[-1])} over all cells"
    return _counted(good, len(names)), text


_RULES = {
    "direction": _direction, "saving": _saving, "cause": _cause, "fp16": _fp16, "paired": _paired,
    "precision": _precision, "int8": _int8, "loop": _loop, "libraries": _libraries, "loaded": _loaded,
    "inference": _inference, "conventions": _conventions, "table": _table,
}  # fmt: skip
