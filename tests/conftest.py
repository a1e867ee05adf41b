"""Shared fixtures; nothing here knows an expected number."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from peakmem.dtypes import FLOAT32
from peakmem.ir.graph import Graph, Operator, Tensor


@pytest.fixture
def chain():
    """Build a graph from (op type, inputs, output, elements) rows; float32, 1-D tensors."""

    def build(
        rows: Sequence[tuple[str, Sequence[str], str, int]],
        *,
        inputs: dict[str, int],
        outputs: Sequence[str],
        constants: dict[str, int] | None = None,
    ) -> Graph:
        tensors = {name: Tensor(name, (size,), FLOAT32, "input") for name, size in inputs.items()}
        for name, size in (constants or {}).items():
            tensors[name] = Tensor(name, (size,), FLOAT32, "constant")
        operators = []
        for position, (op_type, reads, made, size) in enumerate(rows):
            tensors[made] = Tensor(made, (size,), FLOAT32)
            operators.append(Operator(f"op{position}", op_type, tuple(reads), (made,)))
        return Graph("test", tensors, tuple(operators), tuple(inputs), tuple(outputs))

    return build
