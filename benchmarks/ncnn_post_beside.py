"""What the article prints, beside today's figures: its tables of files and of VmPeak, and its rows of top."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from textwrap import fill

from ncnn_post_figures import (
    NEAR,
    ROWS,
    Article,
    Figures,
    Result,
    best_reading,
    mib,
    nearest,
    printed_size,
    reading,
    reproduced,
    share,
)

Rows = Iterable[Sequence[object]]
WIDTH = 118


def table(columns: Sequence[str], rows: Rows) -> str:
    """A Markdown table; columns of figures are aligned to the right."""
    texts = [list(map(str, row)) for row in rows]
    figures = [all(not text or text[0] in "+-–0123456789" for text in column) for column in zip(*texts, strict=True)]
    rule = "".join("---:|" if right else "---|" for right in figures or [False] * len(columns))
    return (
        "".join(f"| {' | '.join(row)} |\n" for row in [columns])
        + f"|{rule}\n"
        + "".join(f"| {' | '.join(row)} |\n" for row in texts)
    )


def filled(text: str) -> str:
    """`text` with its paragraphs at WIDTH; tables, headings and commands stay."""
    parts = []
    for part in text.split("\n\n"):
        part = part.strip("\n")
        plain = not part.startswith(("|", "#", "```"))
        parts.append(fill(part, WIDTH, break_long_words=False, break_on_hyphens=False) if plain else part)
    return "\n\n".join(part for part in parts if part) + "\n"


def titles(post: Article) -> dict[str, str]:
    return {one.name: one.title for one in post.networks}


def files(results: list[Result], post: Article) -> str:
    printed = {one.name: one.file for one in post.networks}
    known = [one for one in results if one.onnx_bytes]
    unit, worst = best_reading((printed[one.name], one.onnx_bytes) for one in known)
    rows = [
        (
            titles(post)[one.name], printed[one.name], f"{one.onnx_bytes:,}", f"{one.onnx_bytes / 2**20:.2f}",
            f"{one.onnx_bytes / 10**6:.2f}", _rounds(printed[one.name], one.onnx_bytes),
            f"{one.bin_bytes:,}", f"{one.bin_bytes / 2**20:.2f}", _rounds(printed[one.name], one.bin_bytes),
        )
        for one in known
    ]  # fmt: skip
    away = ", ".join(f"{name}: {part:.1%} away at most" for name, part in worst.items())
    exact = {
        name: sum(reading(printed[one.name], one.onnx_bytes)[name] == 0 for one in known) for name in worst
    }  # fmt: skip
    counts = ", ".join(f"{count} in {name}" for name, count in exact.items())
    columns = (
        "network", "article", "ONNX file, bytes", "MiB", "MB", "rounds to it in MiB", "ncnn .bin, bytes", "MiB",
        "rounds to it in MiB",
    )  # fmt: skip
    return f"""## Model size

The article's "MB" fits **{unit}** ({away}; of {len(known)} files round to the printed size: {counts}). Our ONNX files
hold every batch normalisation; pnnx folds those that follow a convolution.

{table(columns, rows)}"""


def _rounds(printed: str, nbytes: int) -> str:
    return "yes" if reading(printed, nbytes)["MiB"] == 0 else "no"


def published(results: list[Result], post: Article) -> str:
    base = post.stated["libraries"]
    plain = _beside(results, post, None)
    above = _beside(results, post, base)
    return f"""## Its table of VmPeak

Read as MiB, because the {post.rows[1].sizes["VIRT"] >> 10:,} KiB of VIRT of its row of top for MobileNetV2 stand in its
table as {next(one.vm_peak for one in post.networks if one.name == post.toggled)}.

{plain}

A process takes address space before it has a network: ours the figure of the baseline below, the article's the {base}M
that it states for libraries. Above these, MiB on both sides:

{above}

What the differences come from is not shown by this. The article names neither ncnn's version nor the compiler, the
processor, the options or the number of threads, and its program is not published. Shown is what today's options are
worth (below) and what a process takes without a network. A cell near a figure may be near it by chance.
"""


def _beside(results: list[Result], post: Article, base: float | None) -> str:
    """Printed sizes, today's defaults and the nearest cell; then which cells come near, and how often."""
    printed = {one.name: one.vm_peak for one in post.networks}
    rows = []
    for one in results:
        text = printed[one.name]
        default = one.cells.get("defaults")
        row = [
            titles(post)[one.name],
            f"{printed_size(text)[0] - (base or 0):.1f}" if text else "–",
            _above(default, base),
        ]
        if text:
            name = nearest(text, one.cells, base)
            row += [f"{share(text, default, base):.2f}" if default else "–", _above(one.cells[name], base)]
            row += [f"{share(text, one.cells[name], base):.2f}", name]
        else:
            row += ["–", "–", "–", "–"]
        rows.append(row)
    found = sorted(reproduced(results, post, base).items(), key=lambda pair: -sum(pair[1].values()))
    near = [
        (cell, sum(names.values()), ", ".join(titles(post)[name] for name, good in names.items() if good))
        for cell, names in found
        if any(names.values())
    ]
    text = table(("network", "article", "defaults", "÷ article", "nearest cell", "÷ article", "which"), rows)
    return text + "\n" + table(("cell", f"networks within {NEAR:.0%}", "which"), near) if near else text


def _above(cell: Figures | None, base: float | None) -> str:
    if cell is None:
        return "–"
    return f"{(cell.vm_peak.median - (0 if base is None else cell.vm['import'])) / 2**20:,.1f}"


def _mib(cell: Figures | None) -> str:
    return f"{cell.vm_peak.median / 2**20:,.1f}" if cell else "–"


def rows_of_top(results: list[Result], post: Article) -> str:
    one = next((one for one in results if one.name == post.toggled), None)
    if one is None:
        return ""
    rows = []
    for row, (strict, loose) in zip(post.rows, ROWS, strict=True):
        today = [one.cells.get(name) for name in (strict, loose)]
        rows.append(
            (
                row.above.removesuffix(":"), f"{row.sizes['VIRT'] >> 10:,}", f"{row.sizes['VIRT'] / 2**20:.1f}",
                f"{row.sizes['RES'] / 2**20:.1f}",
                *(_mib(cell) for cell in today),
                *(f"{cell.rss_peak.median / 2**20:,.1f}" if cell else "–" for cell in today),
            )
        )  # fmt: skip
    columns = (
        "row", "VIRT, KiB", "VIRT", "RES", "VmPeak today, all else off", "engine's defaults",
        "resident today, all else off", "engine's defaults",
    )  # fmt: skip
    difference = post.rows[0].sizes["VIRT"] - post.rows[1].sizes["VIRT"]
    stated = post.stated["light_off"] - post.stated["light_on"]
    return f"""### The rows of top

{titles(post)[one.name]}, MiB; imported from the article's text, which states {post.stated["light_off"]}M and
{post.stated["light_on"]}M, a difference of {stated}M. Its rows differ by {difference >> 10:,} KiB, {mib(difference)}.
{reading_of_rows(post)}
The state of options that a row does not name is not known. Today's figures are given for both: all of them off, and as
the engine has them.

{table(columns, rows)}"""


def reading_of_rows(post: Article) -> str:
    """Which reading of KiB the round figures of the text would need."""
    said = []
    for row, stated in ((post.rows[0], post.stated["light_off"]), (post.rows[1], post.stated["light_on"])):
        kib = row.sizes["VIRT"] >> 10
        said.append(
            f"{stated}M stands beside {kib:,} KiB, which are {kib / 1024:.1f} MiB or {kib * 1024 / 10**6:.1f} MB "
            f"({kib / 1000:.1f} MB if KiB are taken for kB)"
        )
    return "; ".join(said) + "."
