"""Fill in what docs/training/formulas.md says of traced steps.

    python docs/traced.py --write    trace the networks (about two minutes) and write both tables
    python docs/traced.py            print them

Needs PyTorch. Everything else on that page is computed where it stands.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable
from pathlib import Path

from generate import table

from peakmem.training import account, networks
from peakmem.training.formulas import FORMULAS, STATEMENTS, Facts, Shape, Traced, facts_of, saved_bytes, shown
from peakmem.training.log import Log
from peakmem.training.scenario import Optimizer, Precision, Scenario
from peakmem.training.tracing.run import trace

PAGE = Path(__file__).resolve().parent / "training" / "formulas.md"
GPT2 = Shape(layers=12, hidden=768, heads=12, sequence=1024, batch=4, vocabulary=50257, positions=1024)
BESIDE: tuple[tuple[str, int, Precision, Shape | None], ...] = (
    ("resnet50", 32, "float32", None),
    ("mobilenet_v2", 32, "float32", None),
    ("vgg16", 32, "float32", None),
    ("vgg16", 1, "float32", None),
    ("gpt2_small", 4, "float32", GPT2),
    ("gpt2_small", 4, "amp-bf16", GPT2),
)
_LOGS: dict[Scenario, dict[str, Log]] = {}


def traced(network: str, batch: int, precision: Precision = "float32", recompute: str = "") -> Log:
    """Two steps with Adam by processor rules; each is traced once."""
    scenario = Scenario(batch=batch, precision=precision, recompute=recompute, optimizer=Optimizer("adam"))
    logs = _LOGS.setdefault(scenario, {})
    if network not in logs:
        logs[network] = trace(networks.workload(network, scenario), scenario)
    return logs[network]


def peak(*asked: str | int) -> int:
    """The peak of such a step."""
    return account.peak(traced(*asked)).nbytes  # type: ignore[arg-type]


def beside() -> str:
    """Each formula beside the traced peak: how far it is off, signed."""
    rows = []
    for network, batch, precision, shape in BESIDE:
        log = traced(network, batch, precision)
        facts, whole = facts_of(log, batch=batch, shape=shape), account.peak(log).nbytes
        cells = [_off(name, facts, whole) for name in FORMULAS]
        rows.append((f"`{network}`", str(batch), precision, f"{whole / 1e6:,.0f}", *cells))
    columns = ("network", "batch", "precision", "traced, MB", *FORMULAS)
    return table(columns, rows, right=("batch", "traced, MB", *FORMULAS))


def _off(name: str, facts: Facts, whole: int) -> str:
    formula = FORMULAS[name]
    return "–" if formula.missing(facts) else f"{formula.compute(facts).nbytes / whole - 1:+.0%}"


def statements() -> str:
    """Each statement of the two texts beside the number that comes out."""
    found = Traced(
        resnet50_saved_32=saved_bytes(traced("resnet50", 32)),
        resnet50_saved_64=saved_bytes(traced("resnet50", 64)),
        resnet50_step_32=peak("resnet50", 32),
        resnet50_recompute_32=peak("resnet50", 32, "float32", "blocks"),
        resnet50_recompute_activations_32=saved_bytes(traced("resnet50", 32, recompute="blocks")),
        resnet50_amp_saved_32=saved_bytes(traced("resnet50", 32, "amp-bf16")),
        resnet50_amp_step_32=peak("resnet50", 32, "amp-bf16"),
        resnet50_step_8=peak("resnet50", 8),
        vgg16_feature_maps=facts_of(traced("vgg16", 1)).feature_map_bytes,
        vgg16_step_1=peak("vgg16", 1),
        vgg16_step_32=peak("vgg16", 32),
    )
    texts = {"S3": "tutorial", "S4": "question"}
    rows = [(texts[item.key[:2]], item.said, shown(item, found), item.verdict, item.why) for item in STATEMENTS]
    return table(("text", "it says", "what comes out", "", "why"), rows)


TABLES: dict[str, Callable[[], str]] = {"traced": beside, "statements": statements}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--write", action="store_true", help="write them into the page")
    write = parser.parse_args().write
    text = PAGE.read_text(encoding="utf-8")
    for name, made in TABLES.items():
        begin, end = f"<!-- {name}: begin, written by python docs/traced.py --write -->", f"<!-- {name}: end -->"
        block = f"{begin}\n\n{made()}\n\n{end}"
        text = re.sub(
            rf"<!-- {name}: begin.*?<!-- {name}: end -->", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if not write:
            print(block)
    if write:
        PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
