"""Cells of a matrix: which there are, that each is accounted for, and what a row sums up."""

from __future__ import annotations

import pytest

from peakmem.errors import UsageError
from peakmem.measuring import matrix
from peakmem.measuring.engine import BUILT_IN, engine
from peakmem.measuring.matrix import Effort, Plan, choices, measure_cells, parse_cells, parse_settings
from peakmem.measuring.record import Bucket, Cell, Counted, Heap, Mark, Outcome, Run
from peakmem.measuring.summary import row, spread


def test_settings_are_typed_and_go_to_whom_they_are_meant_for(faulty):
    ncnn = engine("ncnn")
    chosen = parse_settings(["ncnn.lightmode=on,off", "threads=1,2", "faulty.load_bytes=1_000"], [ncnn, faulty])
    assert chosen == {
        "ncnn": {"lightmode": (True, False), "threads": (1, 2)},
        "faulty": {"threads": (1, 2), "load_bytes": (1000,)},
    }


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ncnn.arena=on", "ncnn has no setting 'arena'"),
        ("onnxruntime.arena=on", "'onnxruntime' is not measured"),
        ("nothing=1", "no setting 'nothing' in ncnn"),
        ("lightmode", "not a setting"),
        ("lightmode=", "not a setting"),
        ("lightmode=maybe", "not a value of setting 'lightmode' (expected on or off)"),
        ("threads=two", "expected a number of 1 or more"),
        ("threads=\u0663", "expected a number of 1 or more"),
        ("threads=0", "expected a number of 1 or more"),
        ("malloc_arena_max=-1", "expected a number of 0 or more"),
        ("python_malloc=jemalloc", "expected pymalloc, malloc"),
    ],
)
def test_a_bad_setting_is_refused_in_one_sentence(text, said):
    with pytest.raises(UsageError) as fault:
        parse_settings([text], [engine("ncnn")])
    assert said in str(fault.value)


def test_a_setting_given_twice_is_refused():
    with pytest.raises(UsageError, match="twice"):
        parse_settings(["threads=1", "ncnn.threads=2"], [engine("ncnn")])


def test_choices(faulty):
    axes = {"fault": ("none", "raise"), "threads": (1, 2, 3)}
    assert len(choices(faulty, axes)) == 6
    assert choices(faulty, axes)[0] == {"fault": "none", "threads": 1}
    assert choices(faulty, axes, singly=True) == ({}, {"fault": "raise"}, {"threads": 2}, {"threads": 3})
    assert choices(faulty, {}) == ({},)
    with pytest.raises(UsageError, match="combinations"):
        choices(faulty, {name: tuple(range(100)) for name in "abc"})


def test_single_cells():
    ncnn, ort = engine("ncnn"), engine("onnxruntime")
    chosen = parse_cells(["defaults", "lightmode=off fp16_storage=off", "onnxruntime.arena=off"], [ncnn, ort])
    assert chosen["ncnn"] == [{}, {"lightmode": False, "fp16_storage": False}]
    assert chosen["onnxruntime"] == [{}, {"arena": False}]
    with pytest.raises(UsageError, match="names no setting"):
        parse_cells([" "], [ncnn])
    with pytest.raises(UsageError, match="several values"):
        parse_cells(["threads=1,2"], [ncnn])


@pytest.mark.usefixtures("clean")
def test_a_bad_cell_does_not_harm_the_others(faulty):
    faults = ("none", "segfault", "raise", "exit", "none")
    plans = [Plan(faulty, "m.onnx", ({"fault": fault},)) for fault in faults]
    plans.append(Plan(faulty, "", fault=Outcome("not converted", "no way")))
    cells = measure_cells(plans, Effort(repeat=2, counted=0, runs=1))
    assert [[run.outcome.status for run in cell.runs] for cell in cells] == [
        ["ok", "ok"], ["crashed"], ["failed"], ["crashed"], ["ok", "ok"], ["not converted"],
    ]  # fmt: skip


def test_an_interrupt_keeps_what_was_measured(faulty, monkeypatch):
    real, count = matrix.run_process, iter(range(10))

    def once(order):
        if next(count) == 1:
            raise KeyboardInterrupt
        return real(order)

    monkeypatch.setattr(matrix, "run_process", once)
    cells = measure_cells([Plan(faulty, "m", ({}, {"load_bytes": 5}))], Effort(repeat=1, counted=0, runs=1))
    assert [[run.outcome.status for run in cell.runs] for cell in cells] == [["ok"], ["interrupted"]]


def test_an_interrupt_between_repeats_is_told_and_the_figures_are_kept(faulty, monkeypatch):
    real, count = matrix.run_process, iter(range(10))

    def third(order):
        if next(count) == 2:
            raise KeyboardInterrupt
        return real(order)

    monkeypatch.setattr(matrix, "run_process", third)
    cells = measure_cells([Plan(faulty, "m", ({}, {"load_bytes": 5}))], Effort(repeat=2, counted=0, runs=1))
    assert [[run.outcome.status for run in cell.runs] for cell in cells] == [["ok", "interrupted"]] * 2
    assert [row(cell).figures["peak_resident"].n for cell in cells] == [1, 1]


def mark(phase, hwm, rss, in_use, live=0, peak=0):
    vm = {"VmHWM": hwm, "VmRSS": rss, "VmPeak": 10 * hwm, "RssAnon": rss - 1}
    counted = Counted(live, peak, live, peak, 1, 1, 0, 0) if peak else None
    return Mark(phase, 0.0, vm, {"heap": Bucket(1, rss, rss, rss)}, Heap(in_use, 0, 7, in_use), counted)


def test_a_row_by_hand():
    def plain(more):
        return Run(
            False, Outcome("ok"),
            (mark("import", 100, 90, 10), mark("load", 500 + more, 200, 60), mark("inputs", 200, 200, 60),
             mark("run 1", 300, 250, 70), mark("run 2", 400, 260, 80), mark("release", 260, 100, 11)), {},
        )  # fmt: skip

    counted = Run(
        True, Outcome("ok"),
        (mark("import", 1, 1, 1, 1000, 1500), mark("read", 1, 1, 1, 1100, 9000), mark("load", 1, 1, 1, 3000, 4000),
         mark("run 1", 1, 1, 1, 3100, 5000), mark("run 2", 1, 1, 1, 3200, 6000), mark("release", 1, 1, 1, 1, 7000)), {},
    )  # fmt: skip
    one = row(Cell("e", "1", {}, {}, "m", (), (plain(0), plain(4), plain(2), counted)))
    figures = {name: value.median for name, value in one.figures.items()}
    assert figures == {
        "peak_resident": 502, "peak_above_baseline": 412, "peak_virtual": 5020, "baseline_resident": 90,
        "steady_resident": 260, "steady_anonymous": 259, "load_in_use": 50, "steady_in_use": 70, "steady_held_free": 7,
        "load_heap": 2000, "load_heap_peak": 8000, "first_heap_peak": 4000, "runs_heap_peak": 5000, "heap_peak": 8000,
        "steady_heap": 2200,
    }  # fmt: skip
    assert one.figures["peak_resident"].n == 3
    assert one.figures["peak_resident"].half_range == 2
    # by the kernel's lag the first phase is as good as the highest, of so few bytes
    assert (one.peak_phase, one.heap_peak_phase) == ("import", "read")


@pytest.mark.parametrize(("run_kib", "phase"), [(9000, "load"), (9400, "load"), (9600, "run 1"), (20000, "run 1")])
def test_the_peak_is_in_the_first_phase_that_the_kernel_cannot_tell_from_the_highest(run_kib, phase):
    marks = tuple(
        mark(name, kib * 1024, 1024, 1)
        for name, kib in (("import", 100), ("load", 9000), ("run 1", run_kib), ("release", run_kib))
    )
    run = Run(False, Outcome("ok"), marks, {})
    assert row(Cell("e", "1", {}, {}, "m", (), (run,))).peak_phase == phase


def test_spread():
    assert spread([]) is None
    assert spread([3, 1, 2]) == spread([1, 2, 3])
    even = spread([1, 2, 4, 9])
    assert even is not None
    assert (even.n, even.min, even.median, even.max) == (4, 1, 3, 9)


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_engine_describes_itself(name):
    one = engine(name)
    assert one.name == name
    assert one.reads
    assert one.distributions
    names = [setting.name for setting in one.settings]
    assert len(set(names)) == len(names)
    for setting in one.settings:
        assert setting.effect
        assert not setting.choices or setting.default in setting.choices
        assert setting.parse(str(setting.default)) == setting.default
