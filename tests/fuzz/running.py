"""One run over mutants in this process: what became of each, and those that broke a promise."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

from tests.fuzz import mutation

SEED = 20_240
# changed by hand now and then; a fixed one keeps a failure repeatable
HANG_SECONDS = 30


class Hang(BaseException):
    """Not an Exception, so that nothing catches it on the way."""


def fall(*_: object) -> None:
    raise Hang


def run(
    seeds: dict[str, bytes], path: Path, cases: int, damage: mutation.Damage = mutation.damage_onnx, blind: float = 0.35
) -> tuple[Counter[str], list[str]]:
    """(how often each outcome came, violations) of `cases` mutants, each written to `path`."""
    kinds: Counter[str] = Counter()
    violations = []
    before = signal.signal(signal.SIGALRM, fall)
    try:
        for case in range(cases):
            data, what = mutation.mutant(seeds, case, SEED, damage, blind)
            path.write_bytes(data)
            signal.alarm(HANG_SECONDS)
            try:
                outcome = mutation.outcome(path, mutation.questions(case, SEED))
            except Hang:
                outcome = mutation.Outcome("VIOLATION", f"ran for {HANG_SECONDS} s", HANG_SECONDS, 0)
            signal.alarm(0)
            kinds[outcome.kind] += 1
            if outcome.kind == "VIOLATION":
                violations.append(f"{path.suffix}, seed {SEED}, case {case}: {what}\n    {outcome.detail}")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return kinds, violations
