"""Where the counter's library comes from: shipped, compiled, or a sentence that says why there is none."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from peakmem.measuring.counter import build
from peakmem.measuring.counter.build import Counter, find_counter

pytestmark = [
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the counter is written for Linux"),
    pytest.mark.skipif(not build.find_compiler(), reason="no C compiler"),
]


@pytest.fixture(autouse=True)
def fresh(tmp_path, monkeypatch):
    """A cache folder of its own, nothing shipped, nothing remembered."""
    monkeypatch.setenv("PEAKMEM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(build, "SHIPPED", tmp_path / "none.so")
    monkeypatch.setattr(build, "FLAGS", tuple(flag.replace("-O2", "-O0") for flag in build.FLAGS))
    # compiled in half the time
    find_counter.cache_clear()
    yield tmp_path / "cache"
    find_counter.cache_clear()


def count_runs(monkeypatch):
    runs = []
    real = build._run
    monkeypatch.setattr(build, "_run", lambda command, *rest: runs.append(command) or real(command, *rest))
    return runs


def test_it_is_compiled_once_and_shown_to_work_once(fresh, monkeypatch):
    first = find_counter()
    assert first.path is not None
    assert first.path.parent == fresh
    assert stat.S_IMODE(fresh.stat().st_mode) == 0o700
    find_counter.cache_clear()
    runs = count_runs(monkeypatch)
    assert find_counter() == first
    assert [command[1:] for command in runs] == [["-dumpmachine"], ["--version"]]
    assert sorted(path.suffix for path in fresh.iterdir()) == [".shown", ".so"]


def test_another_source_is_another_file(tmp_path, monkeypatch):
    first = find_counter()
    changed = tmp_path / "counter.c"
    changed.write_text(build.SOURCE.read_text() + "/* changed */\n")
    monkeypatch.setattr(build, "SOURCE", changed)
    find_counter.cache_clear()
    assert find_counter().path not in (None, first.path)


def test_a_damaged_file_is_made_again():
    first = find_counter()
    assert first.path is not None
    first.path.write_bytes(b"\x7fELF")
    find_counter.cache_clear()
    assert find_counter() == first
    assert build.check(first.path) == ""


def test_a_shipped_one_comes_first_and_a_broken_one_is_passed_over(tmp_path, monkeypatch):
    made = find_counter().path
    assert made is not None
    shipped = tmp_path / "_counter.so"
    shipped.write_bytes(made.read_bytes())
    monkeypatch.setattr(build, "SHIPPED", shipped)
    find_counter.cache_clear()
    assert find_counter() == Counter(shipped)
    shipped.write_bytes(b"nothing of the kind")
    find_counter.cache_clear()
    assert find_counter() == Counter(made)
    monkeypatch.setenv("CC", "no-such-compiler")
    find_counter.cache_clear()
    assert "does not work here" in find_counter().reason
    assert "needs a C compiler" in find_counter().reason


@pytest.mark.parametrize(
    ("names", "says"),
    [
        ({"CC": "no-such-compiler"}, "needs a C compiler"),
        ({"CC": "false"}, "false does not compile the allocation counter"),
        ({"PEAKMEM_CACHE": "/proc/nowhere"}, "cannot be compiled: "),
        ({"PEAKMEM_CACHE": "{tmp}/a blank"}, "LD_PRELOAD cannot name"),
    ],
)
def test_without_it_there_is_one_sentence(tmp_path, monkeypatch, names, says):
    for name, value in names.items():
        monkeypatch.setenv(name, value.replace("{tmp}", str(tmp_path)))
    found = find_counter()
    assert found.path is None
    assert says in found.reason
    assert "\n" not in found.reason


def test_a_source_with_a_fault_names_the_first_error(tmp_path, monkeypatch):
    broken = tmp_path / "counter.c"
    broken.write_text("int x = ;\n")
    monkeypatch.setattr(build, "SOURCE", broken)
    assert "error: expected expression" in find_counter().reason


def test_a_library_that_counts_nothing_is_refused(tmp_path, monkeypatch):
    idle = tmp_path / "counter.c"
    idle.write_text("void peakmem_counter_read(long long *out) { for (int i = 0; i < 8; i++) out[i] = 0; }\n")
    monkeypatch.setattr(build, "SOURCE", idle)
    visible = tuple(flag for flag in build.FLAGS if "visibility" not in flag)
    monkeypatch.setattr(build, "FLAGS", visible)
    assert "counts wrongly" in find_counter().reason


@pytest.mark.slow
def test_two_that_compile_at_once_agree(fresh):
    code = "from peakmem.measuring.counter.build import compiled; print(compiled().path)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    both = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) for _ in "ab"
    ]
    paths = {Path(one.communicate(timeout=60)[0].strip()) for one in both}
    assert len(paths) == 1
    assert paths.pop().parent == fresh


def test_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.delenv("PEAKMEM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert build.cache_folder() == tmp_path / "peakmem"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert build.cache_folder() == tmp_path / "home" / ".cache" / "peakmem"
