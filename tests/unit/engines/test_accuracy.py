"""Profiles against what was measured, kept as data: heap above the engine's own, one line a cell.

The lines are in benchmarks/accuracy/measured, each written by `python -m benchmarks.accuracy.measure` from a counted
process. The limits below are the aims the profiles were built for, not what they reach.
"""

from __future__ import annotations

import importlib.util
import shutil

import pytest
from benchmarks.accuracy.cells import networks
from benchmarks.accuracy.compare import compare
from benchmarks.accuracy.measure import lines

LIMITS = {"ncnn": 0.03, "onnxruntime": 0.08}
LOAD_PEAK = {"ncnn": 0.03, "onnxruntime": 0.10}
QUICK = ("mobilenet_v2", "squeezenet1_1", "shufflenet_v2", "mobilenet_v3_large")


@pytest.mark.parametrize("network", QUICK)
@pytest.mark.parametrize("engine", LIMITS)
def test_every_cell_of_a_network(engine, network):
    if engine == "onnxruntime":
        pytest.importorskip("onnx")
    elif importlib.util.find_spec("pnnx") is None and shutil.which("pnnx") is None:
        pytest.skip("pnnx is not installed")
    measured = [line for line in lines(engine) if line["network"] == network and line["heap"]]
    assert len(measured) >= 7
    for row in compare((engine, network, measured)):
        assert "refused" not in row, row
        for name, (predicted, seen) in row["figures"].items():
            limit = LOAD_PEAK[engine] if name == "load peak" else LIMITS[engine]
            assert abs(predicted / seen - 1) <= limit, (row["cell"], name, predicted, seen)


def test_there_are_enough_networks():
    for engine in LIMITS:
        rules, untouched = networks(engine)
        assert not set(rules) & set(untouched)
        there = {line["network"] for line in lines(engine)}
        assert len(there & {*rules, *untouched}) >= 12
        assert len(there & set(untouched)) >= 6
