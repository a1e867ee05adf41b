"""Asks ncnn itself, in a process of its own: it stops the process on some of what it does not like.

Reads one JSON job a line from standard input, answers one JSON line each:
`{"param", "inputs": {name: shape}, "blobs": [name], "bins": [path], "tail": path, "raw": bool,
"binary": bool}` gives
`{"shapes": {name: shape or null}, "bytes": {name: element size}, "bins": [return code]}`;
`tail` is the param file that the .bin files belong to, `raw` asks for element sizes.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ncnn
import numpy as np


def shape_of(mat: Any) -> list[int] | None:
    """Outermost axis first; None for an empty blob."""
    sizes = {1: ("w",), 2: ("h", "w"), 3: ("c", "h", "w"), 4: ("c", "d", "h", "w")}
    return [getattr(mat, axis) for axis in sizes[mat.dims]] if mat.dims else None


def loaded(param: str, *, binary: bool = False) -> Any:
    """A network that keeps every blob, without weights."""
    net = ncnn.Net()
    net.opt.lightmode = False
    net.opt.num_threads = 1
    net.opt.use_vulkan_compute = False
    if (net.load_param_bin if binary else net.load_param)(param):
        raise ValueError("ncnn does not read the file")
    return net


def answer(job: Mapping[str, Any]) -> dict[str, Any]:
    """Shapes and element sizes of the blobs, and whether the .bin files are read."""
    codes = [loaded(job["tail"]).load_model(path) for path in job.get("bins", ())]
    net = loaded(job["param"], binary=job.get("binary", False))
    if net.load_model(ncnn.DataReaderFromEmpty()):
        raise ValueError("ncnn cannot load empty weights")
    shapes: dict[str, list[int] | None] = {}
    sizes: dict[str, int] = {}
    for raw in (0, 1) if job.get("raw") else (0,):
        extractor = net.create_extractor()
        extractor.set_light_mode(False)
        # A Mat looks into the array it is made of, which has to live as long.
        arrays = [np.zeros(shape, np.float32) for shape in job["inputs"].values()]
        kept = [ncnn.Mat(array).clone() for array in arrays]
        for name, mat in zip(job["inputs"], kept, strict=True):
            extractor.input(int(name) if job.get("binary") else name, mat)
        for name in job["blobs"]:
            code, mat = extractor.extract(int(name) if job.get("binary") else name, raw)
            if raw:
                sizes[name] = mat.elemsize // max(mat.elempack, 1)
            else:
                shapes[name] = None if code else shape_of(mat)
    return {"shapes": shapes, "bytes": sizes, "bins": codes}


def ask(jobs: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The answers of ncnn to `jobs`; a job on which its process ends is answered with the fault."""
    found: list[dict[str, Any]] = []
    while len(found) < len(jobs):
        rest = "\n".join(json.dumps(job) for job in jobs[len(found) :])
        done = subprocess.run([sys.executable, __file__], input=rest, capture_output=True, text=True, check=False)
        found += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode and len(found) < len(jobs):
            found.append({"fault": f"ncnn ended the process ({done.returncode})"})
    return found


def main(lines: Iterable[str]) -> None:
    for line in lines:
        try:
            found = answer(json.loads(line))
        except (ValueError, TypeError) as fault:
            found = {"fault": str(fault)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.stdin)
