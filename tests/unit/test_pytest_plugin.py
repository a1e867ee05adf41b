"""The pytest plugin, in test runs of its own: what passes, what fails and what it says, and what it costs to load."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from importlib import import_module

import pytest

pytest_plugins = ["pytester"]
with contextlib.suppress(ImportError):
    import_module("onnx")
# here: a run in this process forgets what it imported, and compiled parts of onnx cannot be loaded twice
# 6,021,120 B is the peak of MobileNetV2 at batch 1, float32: the output of features.2's expansion, 96x112x112, and of
# its depthwise convolution, 96x56x56, four bytes each: 4 * (96 * 112 * 112 + 96 * 56 * 56)


@pytest.fixture
def run(pytester, request):
    """Run a test file here; options after it."""
    there = request.config.pluginmanager.has_plugin("peakmem")

    def call(code: str, *options: str, conftest: str = "") -> pytest.RunResult:
        pytester.makepyfile(test_it="import pytest\n" + code)
        if conftest:
            pytester.makeconftest(conftest)
        plugin = () if there else ("-p", "peakmem.pytest_plugin")
        return pytester.runpytest_inprocess(*plugin, "--strict-markers", "-p", "no:cacheprovider", *options)

    return call


def test_a_marker_names_the_model_and_the_test_needs_no_line(run):
    done = run(
        """
@pytest.mark.peak_memory("5.75 MiB", model="mobilenet_v2")
def test_fits(): pass

@pytest.mark.peak_memory("5.74 MiB", model="mobilenet_v2")
def test_does_not(): raise AssertionError("the body must not run")

@pytest.mark.peak_memory(6021120, model="mobilenet_v2")
def test_at(): pass

@pytest.mark.peak_memory(6021119, model="mobilenet_v2")
def test_a_byte_less(): pass

@pytest.mark.peak_memory("1 MiB", model="mobilenet_v2")
class TestNearest:
    def test_of_the_class(self): pass

    @pytest.mark.peak_memory("6 MiB", model="mobilenet_v2")
    def test_nearer(self): pass

    @pytest.mark.peak_memory("14 MiB", model="mobilenet_v2", quantity="weights")
    def test_both(self): pass

@pytest.mark.skip
@pytest.mark.peak_memory("1 B", model="mobilenet_v2")
def test_skipped(): pass

@pytest.mark.xfail(strict=True)
@pytest.mark.peak_memory("1 B", model="mobilenet_v2")
def test_expected(): pass

def test_plain(): pass
""", "-v",
    )  # fmt: skip
    done.assert_outcomes(passed=4, failed=4, skipped=1, xfailed=1)
    for name in ("test_does_not", "test_a_byte_less", "test_of_the_class", "test_both"):
        done.stdout.fnmatch_lines([f"*::{name} FAILED*"])
    done.stdout.fnmatch_lines(
        [
            "*over the budget: mobilenet_v2: live peak 5.74 MiB (6,021,120 B) [[]live peak [[]fused]; estimate]*",
            "*budget: 5.74 MiB (6,018,826 B)*",
            "*excess: 2.24 KiB (2,294 B) (+0.0%)*",
            "*the peak is at features.2/depthwise *",
            "*features.2/relu6:out 1x96x112x112 float32: 4.59 MiB*",
            "*features.2/relu6_1:out 1x96x56x56 float32: 1.15 MiB*",
        ]
    )
    done.stdout.no_fnmatch_line("*must not run*")
    done.stdout.no_fnmatch_line("*Traceback*")


def test_fixtures_give_the_model_or_are_asked(run):
    done = run(
        """
from peakmem import GraphBuilder

@pytest.fixture(params=[64, 4096])
def peakmem_model(request):
    made = GraphBuilder("net")
    return made.finish(made.relu(made.input("x", (1, request.param))))

@pytest.mark.peak_memory("1 KiB")
def test_net(peakmem_model): pass

def test_ask(peak_memory):
    answer = peak_memory("mobilenet_v2", batch=2).under("12 MiB").under(2 * 6021120)
    assert answer.nbytes == int(answer) == 2 * 6021120
    assert repr(answer) == "<mobilenet_v2: live peak 11.48 MiB (12,042,240 B)>"
    assert peak_memory("mobilenet_v2", quantity="parameters").under(3_504_872).nbytes == 3_504_872

@pytest.mark.peak_memory("1 MiB")
def test_marked(peak_memory):
    peak_memory("mobilenet_v2")
""",
    )
    done.assert_outcomes(passed=2, failed=2)
    done.stdout.fnmatch_lines(["*over the budget: net: live peak 32.00 KiB (32,768 B)*"])
    done.stdout.fnmatch_lines(["*over the budget: mobilenet_v2: live peak 5.74 MiB*"])


REFUSED = {
    '"2 MB/s", model="mobilenet_v2"': "*'2 MB/s' is not a size*",
    '"2", model="mobilenet_v2"': "*a size without its unit: 2*",
    '0, model="mobilenet_v2"': "*a budget of 0 B*",
    '"-1 MiB", model="mobilenet_v2"': "*a budget below 0*",
    '"1 MiB", model="mobilnet_v2"': "*the zoo has no network*mobilenet_v2*",
    '"1 MiB", model="gone.onnx"': "*gone.onnx: there is no such file*",
    '"1 MiB", model="mobilenet_v2", quantity="peek"': "*'peek' is no quantity (expected 'peak'?)*",
    '"1 MiB", model="mobilenet_v2", batchsize=2': "*'batchsize' is no option (expected 'batch'?)*",
    '"1 MiB", model="mobilenet_v2", engine="ncn"': "*'ncn'*ncnn*",
    'model="mobilenet_v2"': "*takes one budget, 0 given*",
    '"1 MiB"': "*a budget and no model*peakmem_model*",
    '"9 GiB", model="mobilenet_v2", quantity="reserved"': "*reserved is of a training step*",
}  # fmt: skip


def test_what_cannot_be_answered_fails_in_a_sentence(run):
    tests = (f"@pytest.mark.peak_memory({one})\ndef test_{at:02}(): pass" for at, one in enumerate(REFUSED))
    done = run("\n".join(tests))
    done.assert_outcomes(failed=len(REFUSED))
    done.stdout.fnmatch_lines(list(REFUSED.values()))
    done.stdout.no_fnmatch_line("*Traceback*")


def test_a_lower_bound_never_passes(run):
    """A made-up operator leaves the size of its output open."""
    pytest.importorskip("onnx")
    done = run(
        """
import onnx
from onnx import TensorProto, helper

def test_open(peak_memory, tmp_path):
    node = helper.make_node("Mystery", ["x"], ["y"], domain="nobody")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [x], [y])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("nobody", 1)]), tmp_path / "m.onnx")
    peak_memory(tmp_path / "m.onnx").under("1 GiB")
"""
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["*cannot be told: *lower bound*"])


def test_several_processes_give_the_same(pytester, request):
    pytest.importorskip("xdist")
    there = request.config.pluginmanager.has_plugin("peakmem")
    pytester.makepyfile(
        """
import pytest

@pytest.mark.parametrize("batch", [1, 2])
def test_batch(peak_memory, batch):
    peak_memory("mobilenet_v2", batch=batch).under("6 MiB")
"""
    )
    plugin = () if there else ("-p", "peakmem.pytest_plugin")
    done = pytester.runpytest_subprocess(*plugin, "--strict-markers", "-n", "2")
    done.assert_outcomes(passed=1, failed=1)


def test_loading_it_loads_nothing_that_estimates():
    code = (
        "import sys, peakmem.pytest_plugin\n"
        "print(*sorted(n for n in sys.modules if n.startswith('peakmem.')), 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["peakmem._version", "peakmem.pytest_plugin", "False"]


def test_the_marker_is_listed(run):
    done = run("", "--markers")
    done.stdout.fnmatch_lines(["@pytest.mark.peak_memory(budget, model=*"])


def test_what_asked_is_said_once(run):
    done = run(
        """
@pytest.mark.peak_memory("20 MiB", model="mobilenet_v2", quantity="peek")
def test_it(): pass
"""
    )
    done.assert_outcomes(failed=1)
    done.stdout.fnmatch_lines(["peak_memory: 'peek' is no quantity*"])
