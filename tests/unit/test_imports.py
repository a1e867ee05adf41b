"""Imports run one way: what may import what, read from the source, whether at the top or inside a function."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import peakmem

ROOT = Path(peakmem.__file__).parent

GROUND = {"errors", "units", "dtypes", "_version"}
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "_version": set(),
    "units": {"errors"},
    "dtypes": {"errors"},
    "ir": {"errors", "dtypes"},
    "naming": {"ir"},
    "frontends": {"errors", "dtypes", "ir", "naming"},
    "passes": {"errors", "dtypes", "ir"},
    "zoo": {"errors", "dtypes", "ir"},
    "layers": {"ir"},
    "liveness": {"ir"},
    "timeline": {"ir", "liveness"},
    "parameters": {"dtypes", "ir", "naming"},
    "binding": {"errors", "ir", "frontends"},
    "study": {"ir", "layers", "parameters", "passes", "timeline"},
    "conventions": {"ir", "layers", "liveness", "passes", "study"},
    "measuring": {"errors", "units", "dtypes"},
    "toml": set(),
    "devices": {"errors", "toml", "units"},
    "training": {"errors", "units", "dtypes", "formula", "frontends", "ir", "measuring", "zoo"},
    "render": {"devices", "engines", "measuring", "report", "training", "units"},
}
# the parts of the package named here import those and no other; what stands later may import more
ANALYSES = {"binding", "conventions", "layers", "liveness", "naming", "parameters", "passes", "study", "timeline"}
ALLOWED["engines"] = {"dtypes", "errors", "frontends", "ir", "liveness", "measuring", "passes"}
ALLOWED["report"] = GROUND | ANALYSES | {"engines", "ir", "measuring", "training"}
ALLOWED["comparison"] = ALLOWED["report"] | {"report"}
ALLOWED["claims"] = ALLOWED["comparison"] | {"frontends"}
ALLOWED["pipeline"] = ALLOWED["claims"] | {"comparison", "zoo"}
ALLOWED["conversion"] = GROUND | {"binding", "frontends", "ir", "measuring", "pipeline", "zoo"}
ALLOWED["delivery"] = {"conversion", "errors", "measuring"}
ALLOWED["filesize"] = GROUND | {"binding", "frontends", "ir", "parameters", "passes", "pipeline", "report"}
ALLOWED["pricing"] = GROUND | {"filesize", "ir", "parameters", "report"}
ALLOWED["measurement"] = {"delivery", "conversion", "errors", "measuring"}
ALLOWED["prediction"] = {"binding", "delivery", "engines", "errors", "ir", "measuring", "pipeline", "report"}
ALLOWED["reconciliation"] = ALLOWED["prediction"] | {"prediction"}
ALLOWED["verdict"] = {"devices", "engines", "report", "training", "units"}
ALLOWED["producing"] = {"binding", "errors", "frontends", "ir", "pipeline", "report", "training", "zoo"}
ALLOWED["rehearsal"] = {"devices", "errors", "producing", "report", "training", "verdict"}
ALLOWED["verification"] = {"errors", "measuring", "report", "training"}
ALLOWED["replaying"] = {"_version", "report", "training"}
ALLOWED["processors"] = {"engines", "errors", "measuring", "prediction", "units"}
ALLOWED["growth"] = ALLOWED["pipeline"] | {"pipeline"}
ALLOWED["formula"] = set()
ALLOWED["scaling"] = GROUND | ANALYSES | {"formula", "ir", "pipeline", "report", "zoo"}
ALLOWED["fitting"] = ALLOWED["scaling"] | {
    "devices", "engines", "filesize", "prediction", "producing", "rehearsal", "scaling", "training", "verdict",
}  # fmt: skip
ALLOWED["budgets"] = ALLOWED["growth"] | {
    "devices", "filesize", "fitting", "growth", "prediction", "processors", "rehearsal", "toml", "training",
}  # fmt: skip
ALLOWED["ledger"] = ALLOWED["pipeline"] | {
    "devices", "filesize", "pipeline", "prediction", "pricing", "producing", "scaling", "training",
}  # fmt: skip
ALLOWED["pytest_plugin"] = {"budgets", "errors", "units"}
ALLOWED["cli"] = ALLOWED["pipeline"] | ALLOWED["reconciliation"] | {
    "budgets", "claims", "devices", "filesize", "fitting", "growth", "ledger", "measurement", "pricing", "processors",
    "reconciliation", "rehearsal", "render", "replaying", "scaling", "training", "verdict", "verification",
}  # fmt: skip
ALLOWED["__main__"] = {"cli"}
ALLOWED["__init__"] = {
    "_version", "budgets", "engines", "errors", "filesize", "fitting", "growth", "ir", "ledger", "measurement",
    "measuring", "pipeline", "prediction", "pricing", "reconciliation", "rehearsal", "report", "scaling", "training",
}  # fmt: skip

LIBRARIES: dict[str, tuple[str, ...]] = {
    "click": ("cli/",),
    "msgspec": ("budgets/baseline.py", "cli/formats.py", "measuring/record.py", "report/", "training/verify/wire.py"),
    "numpy": ("conversion/", "ir/shapes/fold_", "measuring/", "training/tracing/content.py", "zoo/export.py"),
    "onnx": ("conversion/", "frontends/onnx/rules.py", "zoo/export.py"),
    "pytest": ("pytest_plugin.py",),
    "rich": ("render/terminal.py",),
    "torch": (
        "conversion/",
        "frontends/torch/",
        "measuring/runners/",
        "training/networks/",
        "training/tracing/",
        "training/verify/",
        "training/workspaces/",
    ),
    "timm": ("training/networks/",),
    "torchvision": ("training/networks/",),
    "transformers": ("training/networks/",),
    "keras": ("conversion/", "frontends/keras/"),
    "ncnn": ("measuring/runners/ncnn.py",),
    "onnxruntime": ("measuring/runners/onnxruntime.py",),
    "ai_edge_litert": ("conversion/to_tflite.py", "measuring/runners/litert.py"),
    "flatbuffers": ("conversion/to_tflite.py",),
    "tflite_micro": ("measuring/runners/tflm.py",),
    "openvino": ("conversion/to_openvino.py", "measuring/runners/openvino.py"),
    "executorch": ("conversion/to_pte.py", "measuring/runners/executorch.py"),
    "MNN": ("conversion/to_mnn.py", "measuring/runners/mnn.py"),
    "_tools": ("conversion/to_mnn.py",),
    "litert_torch": ("conversion/to_tflite.py",),
    "ai_edge_quantizer": ("conversion/to_tflite.py",),
    "ml_dtypes": ("measuring/arrays.py",),
    "yaml": ("frontends/table/source.py", "ledger/read.py"),
}
# where each library of others may be imported at all

_HOME = re.compile(r"(peakmem(?:\.\w+)+)(?::\w+)?")
# readers are named in texts and imported when they are needed


def imports(path: Path) -> Iterator[str]:
    """Full names of the modules that a file imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            if node.module == "peakmem":
                yield from (f"peakmem.{alias.name}" for alias in node.names)
            else:
                yield node.module or ""
        elif isinstance(node, ast.Constant) and (match := _HOME.fullmatch(str(node.value))) and _exists(match[1]):
            yield match[1]


def _exists(name: str) -> bool:
    """Whether a text like a module's name is one: domains of operators look alike."""
    path = ROOT.parent.joinpath(*name.split("."))
    return path.is_dir() or path.with_suffix(".py").is_file()


SOURCES = {str(path.relative_to(ROOT)): path for path in sorted(ROOT.rglob("*.py"))}


def part(name: str) -> str:
    """The part of the package that a file or a module belongs to."""
    return name.removeprefix("peakmem.").replace("/", ".").removesuffix(".py").split(".")[0]


@pytest.mark.parametrize("source", SOURCES)
def test_a_part_imports_only_what_stands_before_it(source):
    here = part(source)
    assert here in ALLOWED, f"{here} is new: say in ALLOWED what it may import"
    found = {part(name) for name in imports(SOURCES[source]) if name.startswith("peakmem.")}
    assert found - ALLOWED[here] - {here} == set()


@pytest.mark.parametrize("source", SOURCES)
def test_libraries_stay_in_their_adapters(source):
    for name in imports(SOURCES[source]):
        library = name.split(".")[0]
        if library in ("peakmem", "__future__") or library in sys.stdlib_module_names:
            continue
        assert source.startswith(LIBRARIES.get(library, ())), f"{source} imports {library}"


def test_readers_do_not_import_each_other():
    """All but safetensors, whose index may name checkpoints, and the adapters that hold weights against a network."""
    shared = {path.stem for path in (ROOT / "frontends").glob("*.py")}
    known = {("safetensors", "checkpoint"), ("hf", "safetensors")}
    found = set()
    for source, path in SOURCES.items():
        if not source.startswith("frontends/") or source.count("/") < 2:
            continue
        reader = source.split("/")[1]
        for name in imports(path):
            parts = name.split(".")
            if parts[:2] == ["peakmem", "frontends"] and len(parts) > 2 and parts[2] not in shared | {reader}:
                found.add((reader, parts[2]))
    assert found == known
