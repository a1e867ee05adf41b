"""The allocation counter against memray and mallinfo2 on four engines, and what each of them costs.

    python benchmarks/counter.py
    python benchmarks/counter.py --engine ncnn --network resnet18

Each engine loads the network and runs it three times with one thread, in processes of their own: plain, under the
counter without and with its event log, under memray with native stacks. memray begins inside the process, so what is
compared is blocks born since the same point, once since before the engine's import and once since after it: bytes live
at the end, and their peak. Of memray's records only those of heap allocators are taken; it records mappings too.
mallinfo2 is read at the same points of a process under the counter, the threads' caches off, as what lies in them
counts as in use; it is held against the counter's usable bytes and 8 bytes of header for each block.
Needs torch, pnnx, onnx, onnxruntime, ncnn, openvino and memray; a missing engine is said and left out. Exits with 1
when a figure is apart by more than the bounds below.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from peakmem.measuring.counter.build import find_counter

SHARE, BYTES = 0.001, 32_768
# counter and memray since after the import: apart by at most this share and so many bytes
NOTES = {1: "before the import", 2: "after the import", 3: "end"}

CHILD = """
import ctypes, json, os, sys, time
engine, model, tool, since, out = sys.argv[1:]
import numpy as np
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
sys.modules["openvino_telemetry"] = None
class Info(ctypes.Structure):
    _fields_ = [(n, ctypes.c_size_t) for n in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]
libc = ctypes.CDLL(None)
libc.mallinfo2.restype = Info
said = {"points": []}
numbers = (ctypes.c_longlong * 8)()
def point(number):
    if tool in ("counter", "glibc"):
        libc.peakmem_counter_note(number)
        libc.peakmem_counter_read(numbers)
        info = libc.mallinfo2()
        said["points"].append([info.uordblks + info.hblkhd, *numbers])
def status(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))
tracker = None
if tool == "memray":
    import memray
    tracker = memray.Tracker(out, native_traces=True)
x = np.full((1, 3, 224, 224), 0.01, np.float32)
began = time.perf_counter()
point(1)
if tracker and since == "1":
    tracker.__enter__()
if engine == "ncnn":
    import ncnn
elif engine == "onnxruntime":
    import onnxruntime
elif engine == "openvino":
    import openvino
    from glob import glob
    for name in ("*intel_cpu_plugin*", "*onnx_frontend*"):
        # else loaded with the model: memray does not see what a library allocates while it is loaded
        for file in glob(os.path.join(os.path.dirname(openvino.__file__), "libs", name)):
            ctypes.CDLL(file)
else:
    import torch
    torch.set_num_threads(1)
point(2)
if tracker and since == "2":
    tracker.__enter__()
if engine == "ncnn":
    net = ncnn.Net()
    net.opt.num_threads = 1
    net.load_param(model)
    net.load_model(model[:-6] + ".bin")
    mat = ncnn.Mat(x[0])
    for _ in range(3):
        extractor = net.create_extractor()
        extractor.input(net.input_names()[0], mat)
        result = extractor.extract(net.output_names()[0])
elif engine == "onnxruntime":
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for _ in range(3):
        result = session.run(None, {session.get_inputs()[0].name: x})
elif engine == "openvino":
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": 1})
    request = compiled.create_infer_request()
    for _ in range(3):
        result = request.infer({0: x})
else:
    module = torch.jit.load(model)
    with torch.inference_mode():
        for _ in range(3):
            result = module(torch.from_numpy(x))
point(3)
said["seconds"] = time.perf_counter() - began
if tracker:
    tracker.__exit__(None, None, None)
said["VmHWM"] = status("VmHWM")
with open("/proc/self/maps") as file:
    said["maps"] = file.read()
print("@@" + json.dumps(said))
sys.stdout.flush()
os._exit(0)
"""


def child(engine: str, model: Path, tool: str, since: int, folder: Path) -> dict[str, Any]:
    """Run the engine once; what it said, and the file that the tool wrote."""
    written = folder / f"{engine}-{tool}-{since}"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LD_")}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    if tool in ("counter", "bare", "glibc"):
        environment |= {"LD_PRELOAD": str(find_counter().path)}
    if tool == "counter":
        environment |= {"PEAKMEM_COUNTER_LOG": str(written)}
    if tool == "glibc":
        environment |= {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0"}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, engine, str(model), tool, str(since), str(written)],
        env=environment, capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    line = next((line for line in done.stdout.splitlines() if line.startswith("@@")), "")
    if not line:
        raise RuntimeError(f"{engine} under {tool}: exit code {done.returncode}, {done.stderr[-500:]}")
    return {**json.loads(line[2:]), "written": written}


def by_counter(written: Path, since: int) -> tuple[int, int, int]:
    """(live at the end, peak, calls) of the blocks born after a note, from the event log."""
    import numpy as np

    row = np.dtype([("size", "<i8"), ("pointer", "<u8"), ("caller", "<u8"), ("thread", "<u4"), ("kind", "<u4")])
    count = int(np.fromfile(written, "<u8", 1, offset=16)[0])
    table = np.fromfile(written, row, count, offset=64)
    first, last = (int(np.flatnonzero((table["kind"] == 5) & (table["pointer"] == note))[0]) for note in (since, 3))
    live = peak = calls = 0
    blocks: dict[int, int] = {}
    for size, pointer, _, _, kind in table[first:last].tolist():
        if kind == 1:
            blocks[pointer] = size
            live += size
            calls += 1
            peak = max(peak, live)
        elif kind == 2 and pointer in blocks:
            live -= blocks.pop(pointer)
    return live, peak, calls


def by_memray(written: Path) -> tuple[int, int, int, int]:
    """(live at the end, peak, calls, peak with mappings) of the blocks that memray recorded."""
    import memray

    kinds = memray.AllocatorType
    heap = {
        kinds.MALLOC,
        kinds.CALLOC,
        kinds.REALLOC,
        kinds.POSIX_MEMALIGN,
        kinds.ALIGNED_ALLOC,
        kinds.MEMALIGN,
        kinds.VALLOC,
        kinds.PVALLOC,
    }
    live = peak = calls = 0
    blocks: dict[int, int] = {}
    with memray.FileReader(written) as reader:
        everything = reader.metadata.peak_memory
        for record in reader.get_allocation_records():
            if record.allocator in heap:
                live += record.size - blocks.get(record.address, 0)
                blocks[record.address] = record.size
                calls += 1
                peak = max(peak, live)
            elif record.allocator == kinds.FREE and record.address in blocks:
                live -= blocks.pop(record.address)
    return live, peak, calls, everything


def models(network: str, folder: Path) -> dict[str, Path]:
    """The network as each engine reads it."""
    import torch
    from networks import in_torch

    from peakmem.zoo import build
    from peakmem.zoo.export import export_onnx

    onnx, script = folder / f"{network}.onnx", folder / f"{network}.pt"
    export_onnx(build(network), onnx)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(in_torch.build(network).eval(), torch.zeros(1, 3, 224, 224)).save(script)
    found = {"onnxruntime": onnx, "openvino": onnx, "torch": script}
    try:
        import pnnx

        command = [pnnx.EXEC_PATH, str(script), "inputshape=[1,3,224,224]", "fp16=0"]
        subprocess.run(command, check=True, capture_output=True)
        found["ncnn"] = folder / f"{network}.ncnn.param"
    except ImportError:
        print("| ncnn | left out: no pnnx |")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", default="mobilenet_v2")
    parser.add_argument("--engine", action="append", choices=("ncnn", "onnxruntime", "openvino", "torch"))
    options = parser.parse_args()
    if find_counter().path is None:
        print(find_counter().reason)
        return 2
    good = True
    costs, glibc = [], []
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = models(options.network, folder)
        print("| engine | since | | live at the end (B) | peak (B) | calls | peak with mappings (B) |")
        print("|---|---|---|---:|---:|---:|---:|")
        for engine in options.engine or ("ncnn", "onnxruntime", "openvino", "torch"):
            if engine not in found:
                continue
            plain = child(engine, found[engine], "plain", 0, folder)
            ours = child(engine, found[engine], "counter", 0, folder)
            for since in (1, 2):
                live, peak, calls = by_counter(ours["written"], since)
                theirs = child(engine, found[engine], "memray", since, folder)
                m_live, m_peak, m_calls, everything = by_memray(theirs["written"])
                print(f"| {engine} | {NOTES[since]} | counter | {live:,} | {peak:,} | {calls:,} | |")
                print(f"| | | memray | {m_live:,} | {m_peak:,} | {m_calls:,} | {everything:,} |")
                print(f"| | | apart | {live - m_live:,} | {peak - m_peak:,} | {calls - m_calls:,} | |", flush=True)
                if since == 2:
                    good &= abs(live - m_live) <= SHARE * live + BYTES and abs(peak - m_peak) <= SHARE * peak + BYTES
            first, middle, last = child(engine, found[engine], "glibc", 0, folder)["points"]
            for name, a, b in (("import", first, middle), ("load and three runs", middle, last)):
                chunks, counted = b[0] - a[0], b[3] - a[3] + 8 * (b[5] - a[5])
                glibc.append(f"| {engine} | {name} | {chunks:,} | {counted:,} | {chunks - counted:,} |")
            tools = (child(engine, found[engine], "bare", 0, folder), ours, theirs)
            ratio = " | ".join(f"{tool['seconds'] / plain['seconds']:.2f}" for tool in tools)
            more = " | ".join(f"{(tool['VmHWM'] - plain['VmHWM']) / 1e6:+.1f}" for tool in tools)
            costs.append(f"| {engine} | {ours['points'][2][6]:,} | {ratio} | {plain['VmHWM'] / 1e6:.1f} | {more} |")
    print("\n| engine | during | mallinfo2 in use (B) | usable bytes and headers by the counter (B) | apart |")
    print("|---|---|---:|---:|---:|")
    print(*glibc, sep="\n")
    print("\nTime as a multiple of the plain process's, and what the resident peak rises by (MB)")
    print("\n| engine | calls | counter | with its log | memray | VmHWM plain | counter | with its log | memray |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    print(*costs, sep="\n")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
