"""Printed answers as a whole: a change of a number, a word or an order shows up in review.

PEAKMEM_WRITE_GOLDEN=1 writes the files anew; read the difference before committing it. The numbers
in them are checked against outside values elsewhere (tests/unit/test_conventions.py and others).
"""

import os
from pathlib import Path

import pytest

from peakmem.cli import main

FOLDER = Path(__file__).parent
CALLS = {
    "mobilenet_v1": ["mobilenet_v1"],
    "mobilenet_v1-layers": ["mobilenet_v1", "--layers"],
    "mobilenet_v2-int8": ["mobilenet_v2", "--dtype", "int8", "--budget", "5MiB"],
    "resnet50-conventions": ["resnet50", "--conventions"],
    "gpt2_small": ["gpt2_small:layers=2,context=64", "--batch", "2", "--units", "si", "--top", "3"],
    "mobilenet_v2-train": [
        "train", "mobilenet_v2", "--batch", "2", "--optimizer", "adam", "--device", "v100-16gb", "--route", "graph",
        "--what-if", "sgd,amp", "--top", "3",
    ],
    "zoo": ["zoo"],
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_golden(name, capsys):
    with pytest.raises(SystemExit):
        main(CALLS[name])
    out = capsys.readouterr().out
    path = FOLDER / f"{name}.tsv"
    if os.environ.get("PEAKMEM_WRITE_GOLDEN"):
        path.write_text(out, encoding="utf-8")
    assert out == path.read_text(encoding="utf-8")
