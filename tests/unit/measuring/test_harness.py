"""One process: what is read of it, and how each fault of an engine ends. Expected bytes are those asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from peakmem.errors import Denied, PeakmemError
from peakmem.measuring import environment, harness, probes
from peakmem.measuring.harness import order_for, run_process

PAGE = os.sysconf("SC_PAGESIZE")
LAG = 3 * max(32, 2 * (os.cpu_count() or 1)) * (os.cpu_count() or 1) * PAGE
# the kernel books resident pages per processor, in batches, for each of three kinds (lib/percpu_counter.c); the
# high-water mark is taken from the sums without what is not booked yet
PHASES = ["interpreter", "import", "load", "inputs", "run 1", "run 2", "run 3", "release"]


def mapped(nbytes: int) -> int:
    """What glibc's malloc takes for a block with a mapping of its own: 16 bytes of header, whole pages."""
    return -(-(nbytes + 16) // PAGE) * PAGE


def run(engine, fault="none", at="run", *, timeout=20.0, memory_limit=0, runs=3, **settings):
    chosen = {"fault": fault, "at": at, **settings}
    return run_process(order_for(engine, "model.onnx", chosen, timeout=timeout, memory_limit=memory_limit, runs=runs))


@pytest.mark.usefixtures("clean")
def test_phases_and_known_bytes(faulty):
    done = run(faulty, load_bytes=10_000_000, run_bytes=20_000_000, keep_bytes=3_000_000)
    assert done.outcome.status == "ok"
    assert [mark.phase for mark in done.marks] == PHASES
    marks = {mark.phase: mark for mark in done.marks}
    held = {phase: mark.heap.in_use_bytes - marks["import"].heap.in_use_bytes for phase, mark in marks.items()}
    assert abs(held["load"] - mapped(10_000_000)) <= 1024
    assert abs(held["run 1"] - held["load"]) <= 4096
    # the block of the second run may come from the arena, where blocks are multiples of 16
    assert 3_000_000 <= held["run 2"] - held["run 1"] <= 3_000_000 + 2 * PAGE
    assert abs(held["release"]) <= 4096
    rise = marks["run 1"].vm["VmHWM"] - marks["inputs"].vm["VmRSS"]
    assert abs(rise - 20_000_000) <= LAG
    assert done.inputs[0].shape == (1, 4)
    assert done.facts["fed"] == "in0:16"


def test_the_resident_set_is_the_sum_of_its_buckets(faulty):
    for mark in run(faulty, load_bytes=5_000_000).marks:
        summed = sum(bucket.rss_bytes for bucket in mark.buckets.values())
        assert summed == pytest.approx(mark.vm["VmRSS"], abs=64 * PAGE)


ENDS = {
    "raise": ("failed", "RuntimeError: the engine says no in two lines with a tab"),
    "unsupported": ("unsupported", "no operator Frobnicate"),
    "missing": ("missing", "a_library_that_is_not_there"),
    "exit": ("crashed", "code 7"),
    "segfault": ("crashed", "SIGSEGV"),
    "abort": ("crashed", "SIGABRT"),
    "kill": ("crashed", "SIGKILL"),
    "leave": ("crashed", "code 0"),
    "garble": ("failed", "garbage on the wire"),
    "deaf": ("crashed", "code 1"),
    "forge": ("failed", "garbage on the wire"),
    "turn": ("crashed", "closed its connection"),
}


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("fault", ENDS)
def test_a_fault_is_an_outcome_with_its_reason_and_phase(faulty, fault):
    done = run(faulty, fault)
    status, reason = ENDS[fault]
    assert done.outcome.status == status
    assert reason in done.outcome.reason
    assert done.outcome.phase == "run 1"
    assert [mark.phase for mark in done.marks] == PHASES[:4]


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("fault", ["hang", "spin", "stop", "babble"])
def test_what_does_not_end_is_ended(faulty, fault):
    began = time.monotonic()
    done = run(faulty, fault, timeout=1.0)
    assert done.outcome.status == "timeout"
    assert time.monotonic() - began < 10


@pytest.mark.usefixtures("clean")
@pytest.mark.parametrize("fault", ["noise", "daemon", "fill"])
def test_noise_and_children_do_not_disturb(faulty, fault):
    done = run(faulty, fault)
    assert done.outcome.status == "ok"
    assert len(done.marks) == 8
    assert len(done.output) <= harness.OUTPUT_KEPT


PLACES = [("start", "import"), ("load", "load"), ("feed", "inputs"), ("release", "after run 3")]


@pytest.mark.parametrize(("at", "phase"), PLACES)
def test_the_phase_of_a_fault_is_named(faulty, at, phase):
    assert run(faulty, "segfault", at).outcome.phase == phase


def networks():
    """The networks that processes see, by the name of a process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                found.setdefault((entry / "ns" / "net").readlink(), []).append((entry / "comm").read_text().strip())
    return found


def test_what_cleared_its_environment_is_found_by_its_network(faulty):
    before = networks()
    done = run(faulty, "escape")
    assert done.outcome.status == "ok"
    if not done.facts["network"].startswith("cut off"):
        pytest.skip("processes have no network of their own here")
    assert not [names for network, names in networks().items() if network not in before and "sleep" in names]


@pytest.mark.parametrize("limit", [1, 12 << 20])
def test_the_smallest_limits_are_outcomes_with_their_limit(faulty, limit):
    done = run(faulty, "starve", "start", memory_limit=limit)
    assert done.outcome.status == "out of memory"
    assert f"under a limit of {limit:,} B" in done.outcome.reason


def test_a_folder_that_was_removed_does_not_matter(faulty, tmp_path, monkeypatch):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert run(faulty).outcome.status == "ok"


def test_a_limit_beyond_all_addresses_limits_nothing(faulty):
    assert run(faulty, memory_limit=10**30).outcome.status == "ok"


@pytest.mark.usefixtures("clean")
def test_a_memory_limit_is_an_outcome(faulty):
    done = run(faulty, "starve", memory_limit=256 << 20)
    assert done.outcome.status == "out of memory"
    assert max(mark.vm["VmHWM"] for mark in done.marks) < 256 << 20


def test_no_permission_is_one_sentence(faulty, monkeypatch):
    def denied(pid: int) -> dict[str, int]:
        raise Denied(f"the system does not let us read status of process {pid}")

    monkeypatch.setattr(probes, "status", denied)
    done = run(faulty)
    assert done.outcome.status == "denied"
    assert "does not let us read" in done.outcome.reason


def test_no_folder_is_one_sentence(faulty, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    with pytest.raises(PeakmemError, match="no temporary folder"):
        run(faulty)


@pytest.mark.usefixtures("clean")
def test_an_interrupt_leaves_nothing(faulty, monkeypatch):
    def interrupt(_pid: int) -> dict[str, int]:
        raise KeyboardInterrupt

    monkeypatch.setattr(probes, "status", interrupt)
    with pytest.raises(KeyboardInterrupt):
        run(faulty)


@pytest.mark.usefixtures("clean")
def test_the_process_dies_with_the_one_that_measures(faulty, tmp_path):
    script = f"""
import sys
sys.path[:0] = {sys.path!r}
from pathlib import Path
import importlib.util
spec = importlib.util.spec_from_file_location("faulty", {str(faulty.path)!r})
module = importlib.util.module_from_spec(spec); spec.loader.exec_module(module)
from peakmem.measuring.engine import describe
from peakmem.measuring.harness import order_for, run_process
print("ready", flush=True)
run_process(order_for(describe(module), "m", {{"fault": "hang", "at": "start"}}, timeout=60.0))
"""
    variables = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=variables) as measuring:
        assert measuring.stdout is not None
        assert measuring.stdout.readline() == b"ready\n"
        time.sleep(0.5)
        measuring.kill()
    time.sleep(0.3)
    for left in tmp_path.glob("peakmem-*"):
        # a killed process cannot clean up; its child is gone all the same (fixture)
        for file in left.iterdir():
            file.unlink()
        left.rmdir()


def test_the_environment_has_one_size(faulty):
    settings = faulty.defaults()
    kinds = [
        environment.environment(faulty, {**settings, **more}, scratch="/tmp/peakmem-abcdefgh", token="0" * 32, **rest)
        for more, rest in (
            ({}, {}),
            ({"threads": 12, "malloc_arena_max": 1}, {}),
            ({"malloc_mmap_threshold": 131072}, {"preload": "/x/counter.so", "log": "/tmp/peakmem-abcdefgh/events"}),
        )
    ]
    sizes = {sum(len(name) + len(value) + 2 + 8 for name, value in one.items()) for one in kinds}
    assert sizes == {environment.TOTAL_BYTES}
    longer = environment.environment(
        faulty, settings, scratch="/tmp/peakmem-abcdefgh", token="0" * 32, arguments=["/opt/python", "child.py"]
    )
    # 12 and 9 bytes with their zeros, the program's path a second time
    assert len(kinds[0]["PEAKMEM_PAD"]) - len(longer["PEAKMEM_PAD"]) == 12 + 9 + 12
    assert kinds[0]["FAULTY_TELEMETRY"] == "off"
    assert "MALLOC_ARENA_MAX" not in kinds[0]


def test_the_process_sees_the_fixed_environment(faulty, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_USER", "x")
    source = faulty.path.read_text().replace(
        'self._fault("start")', 'import os\n        self.tools.fact("environment", repr(dict(os.environ)))'
    )
    other = tmp_path / "faulty.py"
    other.write_text(source)
    from dataclasses import replace

    done = run_process(order_for(replace(faulty, path=other), "m", runs=1))
    seen = eval(done.facts["environment"])
    assert "SECRET_OF_THE_USER" not in seen
    assert seen["PYTHONHASHSEED"] == "0"
    assert seen["HOME"] == seen["TMPDIR"] != os.environ.get("HOME")
    assert done.facts["network"].startswith(("cut off", "not cut off"))


def test_nothing_of_this_package_is_in_the_process(faulty, tmp_path):
    source = faulty.path.read_text().replace(
        'self._fault("release")', 'import sys\n        self.tools.fact("modules", " ".join(sys.modules))'
    )
    other = tmp_path / "faulty.py"
    other.write_text(source)
    from dataclasses import replace

    modules = run_process(order_for(replace(faulty, path=other), "m", runs=1)).facts["modules"].split()
    assert not [name for name in modules if name.split(".")[0] in ("peakmem", "numpy", "json", "site")]
