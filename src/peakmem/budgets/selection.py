"""Which models of a file are meant: by their names, and by the files that they are made of."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from peakmem.budgets.config import Case, Config
from peakmem.budgets.words import unknown


def selected(config: Config, only: Sequence[str], files: Sequence[str]) -> tuple[Case, ...]:
    """The cases that are meant: by name or pattern of names, and by the files they are made of.

    Raises:
        UsageError: a name that no model has.
    """
    cases = config.cases
    for name in only:
        if not any(_is(case, name) for case in cases):
            names = sorted({case.name for case in cases} | {case.model for case in cases})
            raise unknown(name, names, where="--only", what="model", key="")
    chosen = tuple(case for case in cases if not only or any(_is(case, name) for name in only))
    if not files:
        return chosen
    changed = {Path(one).resolve() for one in files}
    if config.file.resolve() in changed or any(one.resolve() in changed for one in config.devices):
        return chosen
    if config.baseline is not None and config.baseline.resolve() in changed:
        return chosen
    return tuple(case for case in chosen if _is_made_of(case, config.folder, changed))


def _is(case: Case, name: str) -> bool:
    whole = (case.name, case.model, case.model.partition("/")[0], f"{case.model.partition('/')[0]}@{case.device}")
    return any(fnmatchcase(one, name) for one in whole)


def _is_made_of(case: Case, folder: Path, changed: set[Path]) -> bool:
    """Whether a model is made of one of the files: its own, those beside it of the same stem, its code."""
    from peakmem.frontends.live import is_factory

    source = (folder / case.source).resolve()
    if source.exists():
        parts = {(folder / one).resolve() for one in case.options.files}
        beside = {one for one in changed if one.parent == source.parent and one.name.split(".")[0] == source.stem}
        inside = {one for one in changed if source in one.parents}
        return bool(({source} | parts) & changed or beside or inside)
    return is_factory(case.source) and any(one.suffix == ".py" for one in changed)
