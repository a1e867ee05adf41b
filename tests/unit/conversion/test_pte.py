"""PyTorch to ExecuTorch: the program computes what the module computes, and its planned buffer is what it should be."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from peakmem.conversion import convert
from peakmem.conversion.torch_module import SEED, exported, without_batch_norms

torch = pytest.importorskip("torch")

RUN = """
import sys, numpy, torch
from executorch.runtime import Runtime
method = Runtime.get().load_program(sys.argv[1]).load_method("forward")
numpy.save(sys.argv[3], method.execute([torch.from_numpy(numpy.load(sys.argv[2]))])[0].numpy())
"""
PLANNED = """
import sys
from pathlib import Path
from executorch.exir._serialize._program import deserialize_pte_binary
file = deserialize_pte_binary(Path(sys.argv[1]).read_bytes())
print(*getattr(file, "program", file).execution_plan[0].non_const_buffer_sizes)
"""
SMALL = """
import torch
from torch import nn

INPUTS = [("x", "float32", (1, 3, 16, 16))]


def model():
    norms = [nn.BatchNorm2d(8), nn.BatchNorm2d(8)]
    for norm in norms:
        nn.init.uniform_(norm.running_var, 0.5, 2)
        nn.init.normal_(norm.running_mean)
        nn.init.normal_(norm.weight)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), norms[0], nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1), nn.MaxPool2d(2), norms[1],
    )
"""


def ran(path: Path, x: Any, folder: Path) -> Any:
    """What ExecuTorch answers, in a process of its own."""
    np.save(folder / "x.npy", x.numpy())
    order = [sys.executable, "-W", "ignore", "-c", RUN, str(path), str(folder / "x.npy"), str(folder / "y.npy")]
    done = subprocess.run(order, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr[-600:]
    return np.load(folder / "y.npy")


def planned(path: Path) -> list[int]:
    """The planned buffers, as the file tells them; the first is always 0."""
    order = [sys.executable, "-W", "ignore", "-c", PLANNED, str(path)]
    return [int(word) for word in subprocess.run(order, capture_output=True, text=True, check=True).stdout.split()]


def module_of(path: str | Path) -> tuple[Any, Any]:
    """(module, input) with the weights that a conversion of the file draws."""
    home: dict[str, Any] = {}
    exec(compile(Path(path).read_text(encoding="utf-8"), str(path), "exec"), home)
    torch.manual_seed(SEED)
    module = home["model"]().eval()
    return module, torch.randn(home["INPUTS"][0][2])


def test_batch_norms_become_part_of_convolutions(tmp_path: Path) -> None:
    path = tmp_path / "small.py"
    path.write_text(SMALL, encoding="utf-8")
    module, x = module_of(path)
    with torch.no_grad():
        wanted = module(x)
        for everything, expected in ((False, (1, 0)), (True, (1, 1))):
            program, *counts = without_batch_norms(exported(module, (x,)), (x,), all_of_them=everything)
            assert tuple(counts) == expected
            torch.testing.assert_close(program.module()(x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_portable_program(tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    path = tmp_path / "small.py"
    path.write_text(SMALL, encoding="utf-8")
    made = convert(path, "pte", options={"backend": "portable"}, cache=tmp_path / "cache")
    module, x = module_of(path)
    with torch.no_grad():
        np.testing.assert_allclose(ran(made.path, x, tmp_path), module(x).numpy(), rtol=1e-4, atol=1e-4)
    # convolution 8 x 14 x 14 floats and its ReLU are alive together, the input of 3 x 16 x 16 lies beside one of them
    assert planned(made.path)[1] >= 2 * 8 * 14 * 14 * 4
    assert any("1 batch norms were folded" in note for note in made.notes)


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "name"), [("portable", "resnet18"), ("xnnpack", "mobilenet_v2")])
def test_networks_of_the_zoo(backend: str, name: str, tmp_path: Path) -> None:
    pytest.importorskip("executorch")
    made = convert(name, "pte", options={"backend": backend}, cache=tmp_path / "cache")
    source = convert(name, "torch", cache=tmp_path / "cache")
    module, x = module_of(source.path)
    with torch.no_grad():
        wanted = module(x).numpy()
    np.testing.assert_allclose(ran(made.path, x, tmp_path), wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())
    if backend == "portable":
        # measured with executorch 1.4.1: first convolution and its ReLU, 2 x 64 x 112 x 112 floats
        assert planned(made.path) == [0, 2 * 64 * 112 * 112 * 4]
