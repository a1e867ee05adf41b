"""Build hook of the wheel: compiles the allocation counter where there is a C compiler for this system.

The wheel then carries the platform's tag. Without a compiler, or on another system, the wheel is a pure one, and the
counter is compiled on first need; the build says which it is. An editable installation always does the latter.
"""

from __future__ import annotations

import importlib.util
import shutil
import sys
import sysconfig
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

COUNTER = Path("src/peakmem/measuring/counter")


class CounterHook(BuildHookInterface):  # type: ignore[type-arg]
    """Puts `_counter.so` beside counter.c in the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile and name the file, before the wheel is put together."""
        if self.target_name != "wheel" or version == "editable":
            return
        self.scratch = tempfile.mkdtemp(prefix="peakmem-counter-")
        made = Path(self.scratch) / "_counter.so"
        build = load(Path(self.root) / COUNTER / "build.py")
        reason = why_not(build, made)
        if reason:
            self.app.display_warning(f"a pure wheel, the allocation counter is compiled on first need: {reason}")
            return
        build_data["force_include"][str(made)] = "peakmem/measuring/counter/_counter.so"
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-" + sysconfig.get_platform().replace("-", "_").replace(".", "_")

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:  # noqa: ARG002
        """Leave nothing behind."""
        if folder := getattr(self, "scratch", ""):
            shutil.rmtree(folder, ignore_errors=True)


def why_not(build: ModuleType, made: Path) -> str:
    """Compile the counter to `made`; empty when it is there and counts, else why it is not."""
    if not sys.platform.startswith("linux"):
        return f"it is written for Linux, this is {sys.platform}"
    compiler = build.find_compiler()
    if not compiler:
        return "there is no C compiler"
    try:
        return str(build.compile_to(made, compiler) or build.check(made))
    except OSError as fault:
        return str(fault)


def load(path: Path) -> ModuleType:
    """The module in the file at `path`, without the package around it."""
    name = "peakmem_counter_build"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module
