"""Every built-in network written as ONNX at batch 1, 2 and symbolic, and read back; then ONNX's light models.

    python benchmarks/exports.py

One row per file: operators, parameters, live peak, unknowns, and whether the file gives what the
network itself gives. Exits with 1 when one differs or holds an unknown. Needs peakmem[onnx] and
2 GB of space for temporary files, one at a time.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import peakmem
from peakmem.ir.dims import Symbol
from peakmem.zoo import NETWORKS, build
from peakmem.zoo.export import export_onnx


def row(name: str, batch: str, report: peakmem.Estimate, same: str) -> bool:
    """Print one row; whether it is as it should be."""
    good = not report.unknowns and report.kind == "estimate" and same != "differs"
    print(
        f"| {name} | {batch} | {report.model.operators} | {report.parameters.trainable:,} | {report.peak_bytes:,} "
        f"| {len(report.unknowns)} | {same} |"
    )
    return good


def main() -> int:
    print("| network | batch | operators | parameters | live peak, fused (B) | unknowns | file and network |")
    print("|---|---|---:|---:|---:|---:|---|")
    results = []
    for name in NETWORKS:
        for batch in (1, 2, "N"):
            graph = build(name, batch=Symbol(batch) if isinstance(batch, str) else batch)
            with TemporaryDirectory() as folder:
                path = Path(folder) / f"{name}.onnx"
                export_onnx(graph, path)
                read = peakmem.estimate(path, batch=3 if isinstance(batch, str) else None)
            own = peakmem.estimate(name, batch=3 if isinstance(batch, str) else batch)
            equal = (read.peaks, read.weights_bytes, read.parameters) == (own.peaks, own.weights_bytes, own.parameters)
            shown = f"{batch} = 3" if isinstance(batch, str) else str(batch)
            results.append(row(name, shown, read, "equal" if equal else "differs"))
    import onnx

    light = Path(onnx.__file__).parent / "backend/test/data/light"
    for path in sorted(light.glob("*.onnx")):
        results.append(row(path.name, "1", peakmem.estimate(path), "-"))
    print(f"\n{sum(results)} of {len(results)} files without an unknown and equal where there is something to equal")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
