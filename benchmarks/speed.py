"""How long an answer takes and how much memory it needs, side by side with two other ways to one.

    python benchmarks/speed.py [--quick] [--repeat 5] [--json speed.json] > speed.md

Subjects, each in a fresh process: peakmem through its API; onnx.load and ONNX's shape inference;
onnx-tool's shape inference and profile; and `import onnx` alone, as the floor that every tool on
top of that package has. Files: a ResNet-50, a network of 100,000 operators, and 1.9 GB of weights
inside one file. Needs: pip install 'peakmem[onnx]' onnx-tool.

Wall time is from start to end of the process, Python's own start included. Peak resident memory
is the kernel's ru_maxrss of that process, as wait4 gives it. Linux lets it begin at what the parent
held when it forked, so a bare Python stands between this file and what is measured. All subjects
run once unmeasured before, from compiled modules as an installed package has them.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

SUBJECTS = {
    "peakmem": """
import sys, peakmem
report = peakmem.estimate(sys.argv[1])
print("peak", report.peak_bytes, "B, weights", report.weights_bytes, "B")
""",
    "onnx.load + infer_shapes": """
import sys, onnx
model = onnx.shape_inference.infer_shapes(onnx.load(sys.argv[1]))
print(len(model.graph.value_info), "shapes")
""",
    "onnx-tool": """
import sys, onnx_tool
model = onnx_tool.Model(sys.argv[1])
model.graph.shape_infer()
model.graph.profile()
print(int(sum(model.graph.macs)), "MACs")
""",
    "import onnx": """
import onnx
print("nothing")
""",
}
COMPARED, FLOOR = "onnx-tool", "import onnx"
RUNTIMES = ("onnx", "numpy", "torch", "onnxruntime", "rich", "msgspec")
# what neither `import peakmem` nor `peakmem --help` may load

MAKE_RESNET = """
import sys
from peakmem.zoo import build
from peakmem.zoo.export import export_onnx
export_onnx(build("resnet50"), sys.argv[1])
"""


# -- files -------------------------------------------------------------------------------


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number: int, content: int | bytes | str) -> bytes:
    """A protobuf field: a number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def value_info(name: str, dims: tuple[int, ...], code: int = 1) -> bytes:
    shape = b"".join(field(1, field(1, dim)) for dim in dims)
    return field(1, name) + field(2, field(1, field(1, code) + field(2, shape)))


def node(op_type: str, inputs: tuple[str, ...], output: str, attributes: bytes = b"") -> bytes:
    return field(1, b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, op_type) + attributes)


def ints(name: str, values: tuple[int, ...]) -> bytes:
    return field(5, field(1, name) + b"".join(field(8, value) for value in values) + field(20, 7))


def write_model(path: Path, nodes: bytes, ports: bytes, weights: dict[str, tuple[int, ...]]) -> None:
    """A model with float32 weights of arbitrary bytes, written front to back, a megabyte at a time."""
    fronts = []
    for name, dims in weights.items():
        nbytes = 4
        for dim in dims:
            nbytes *= dim
        front = b"".join(field(1, dim) for dim in dims) + field(2, 1) + field(8, name)
        front += varint(9 << 3 | 2) + varint(nbytes)
        fronts.append((varint(5 << 3 | 2) + varint(len(front) + nbytes) + front, nbytes))
    head = field(2, "synthetic") + nodes + ports
    size = len(head) + sum(len(front) + nbytes for front, nbytes in fronts)
    # Small finite floats: 0x3d…… is between 0.03 and 0.13.
    block = b"".join(os.urandom(3) + b"\x3d" for _ in range(1 << 10)) * (1 << 8)
    with path.open("wb") as file:
        file.write(field(1, 8) + field(8, field(2, 13)) + varint(7 << 3 | 2) + varint(size) + head)
        for front, nbytes in fronts:
            file.write(front)
            for start in range(0, nbytes, len(block)):
                file.write(block[: min(len(block), nbytes - start)])


def make_many(path: Path, operators: int) -> None:
    """conv 3x3 → relu → residual add, a third of `operators` times over, on one small weight."""
    nodes, x = [], "input"
    attributes = ints("kernel_shape", (3, 3)) + ints("pads", (1, 1, 1, 1))
    for at in range(operators // 3):
        nodes.append(node("Conv", (x, "w"), f"c{at}", attributes))
        nodes.append(node("Relu", (f"c{at}",), f"r{at}"))
        nodes.append(node("Add", (f"r{at}", x), f"a{at}"))
        x = f"a{at}"
    nodes.append(node("Relu", (x,), "out"))
    shape = (1, 8, 16, 16)
    ports = field(11, value_info("input", shape)) + field(12, value_info("out", shape))
    write_model(path, b"".join(nodes), ports, {"w": (8, 8, 3, 3)})


def make_large(path: Path, nbytes: int) -> None:
    """A table that takes two fifths of `nbytes`, 32 matrices of megabytes, and hundreds of 1 MiB."""
    width = 1024
    table = nbytes * 2 // 5 // (4 * width)
    wide = nbytes * 2 // 5 // (32 * 4 * width)
    weights = {"table": (table, width)}
    nodes, x = [node("Gather", ("table", "ids"), "x0")], "x0"
    count = 0

    def product(rows: int, columns: int) -> None:
        nonlocal x, count
        count += 1
        weights[f"w{count}"] = (rows, columns)
        nodes.append(node("MatMul", (x, f"w{count}"), f"m{count}"))
        nodes.append(node("Relu", (f"m{count}",), f"x{count}"))
        x = f"x{count}"

    for _ in range(16):
        product(width, wide)
        product(wide, width)
    rest = nbytes - 4 * width * (table + 32 * wide)
    for _ in range(rest // (2 * 4 * width * 256)):
        product(width, 256)
        product(256, width)
    ports = field(11, value_info("ids", (16,), 7)) + field(12, value_info(x, (16, width)))
    write_model(path, b"".join(nodes), ports, weights)


# -- measuring ---------------------------------------------------------------------------


LAUNCH = """
import os, signal, sys, time
limit, out, err, *arguments = sys.argv[1:]
mode = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
files = [(os.POSIX_SPAWN_OPEN, 1, out, mode, 0o600), (os.POSIX_SPAWN_OPEN, 2, err, mode, 0o600)]
start = time.perf_counter()
child = os.posix_spawn(arguments[0], arguments, os.environ, file_actions=files)
signal.signal(signal.SIGALRM, lambda *_: os.kill(child, signal.SIGKILL))
signal.setitimer(signal.ITIMER_REAL, float(limit))
_, status, usage = os.wait4(child, 0)
print(time.perf_counter() - start, os.waitstatus_to_exitcode(status), usage.ru_maxrss)
"""


def run(arguments: list[str], timeout: float) -> dict[str, Any]:
    """Wall seconds, peak resident bytes, and how the process ended."""
    with tempfile.TemporaryDirectory() as folder:
        out, err = Path(folder) / "out", Path(folder) / "err"
        launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, str(timeout), str(out), str(err)]
        done = subprocess.run(
            [*launcher, sys.executable, *arguments], capture_output=True, text=True, check=True, env=environment()
        )
        said = {path: path.read_text(errors="replace").strip().splitlines() for path in (out, err)}
    seconds, code, peak = (float(word) for word in done.stdout.split())
    lines = said[err if code else out]
    result = lines[-1][:160] if lines else ""
    if code:
        result = f"ended after {timeout:.0f} s" if seconds >= timeout else f"fails: {result or f'signal {-code:.0f}'}"
    unit = 1 if sys.platform == "darwin" else 1024
    return {"seconds": seconds, "peak_bytes": int(peak) * unit, "ok": code == 0, "result": result}


COMPILED = tempfile.mkdtemp(prefix="speed-compiled-")
atexit.register(shutil.rmtree, COMPILED, ignore_errors=True)


def environment() -> dict[str, str]:
    """This environment, with compiled modules kept, in a folder that goes with this process."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "PYTHONPYCACHEPREFIX": COMPILED}


def warm(path: Path) -> None:
    """Have the file in the page cache, so that the first subject does not pay for the disk."""
    with path.open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def measure(path: Path, repeats: Callable[[str], int], timeout: float) -> dict[str, list[dict[str, Any]]]:
    """All subjects on one file, in turns, so that a noisy minute is shared by all."""
    warm(path)
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in SUBJECTS}
    for turn in range(max(repeats(name) for name in SUBJECTS)):
        for name, code in SUBJECTS.items():
            if turn < repeats(name):
                runs[name].append(run(["-c", code, str(path)], timeout))
                print(f"{path.name}: {name}: {runs[name][-1]['seconds']:.2f} s", file=sys.stderr)
    return runs


def loaded_by(code: str) -> list[str]:
    """Which of RUNTIMES a process has in sys.modules at its end."""
    probe = f"{code}\nimport sys\nsys.stderr.write(','.join(m for m in {RUNTIMES!r} if m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    return [name for name in done.stderr.split(",") if name]


HELP = """
from peakmem.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
"""


# -- the table ---------------------------------------------------------------------------


def median(runs: list[dict[str, Any]], key: str) -> float:
    return float(statistics.median(entry[key] for entry in runs))


def spread(runs: list[dict[str, Any]], key: str, scale: float, digits: int) -> str:
    values = sorted(entry[key] * scale for entry in runs)
    shown = f"{statistics.median(values):.{digits}f}"
    return shown if len(values) == 1 else f"{shown} ({values[0]:.{digits}f}–{values[-1]:.{digits}f})"


def rows(title: str, size: int, runs: dict[str, list[dict[str, Any]]]) -> list[str]:
    out = []
    compared = runs[COMPARED] if all(entry["ok"] for entry in runs[COMPARED]) else None
    floor = median(runs[FLOOR], "peak_bytes")
    for name, entries in runs.items():
        ratio = "–"
        if compared is not None and name not in (COMPARED, FLOOR) and all(entry["ok"] for entry in entries):
            times = median(entries, "seconds") / median(compared, "seconds")
            ratio = f"1/{1 / times:.1f}" if times < 1 else f"{times:.1f}"
        above = "–" if name == FLOOR else f"{(median(entries, 'peak_bytes') - floor) / 2**20:+.1f}"
        cells = (
            f"{title}, {size / 1e6:,.1f} MB", name, str(len(entries)), spread(entries, "seconds", 1, 2), ratio,
            spread(entries, "peak_bytes", 2**-20, 1), above, entries[-1]["result"].replace("|", "/"),
        )  # fmt: skip
        out.append(f"| {' | '.join(cells)} |")
    return out


def versions() -> str:
    found = []
    for name in ("peakmem", "onnx", "onnx-tool", "numpy"):
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            found.append(f"{name} (not installed as a package)")
    return ", ".join(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="runs of each subject on each file")
    parser.add_argument("--slow-repeat", type=int, default=1, help="runs of onnx-tool on the network of many operators")
    parser.add_argument("--timeout", type=float, default=900, help="seconds after which a run is ended")
    parser.add_argument("--quick", action="store_true", help="10,000 operators and 0.2 GB of weights")
    parser.add_argument("--only", choices=("resnet50", "operators", "weights", "help"), help="one part")
    parser.add_argument("--json", type=Path, help="write all measurements to this file")
    parser.add_argument("--folder", type=Path, help="where the inputs are made and removed (2 GB)")
    options = parser.parse_args()
    operators, nbytes = (10_000, 200_000_000) if options.quick else (100_000, 1_900_000_000)
    data: dict[str, Any] = {"versions": versions(), "files": {}}
    for name, code in SUBJECTS.items():
        with tempfile.NamedTemporaryFile(suffix=".onnx") as small:
            make_many(Path(small.name), 6)
            first = run(["-c", code, small.name], options.timeout)
        if not first["ok"]:
            parser.error(f"{name} {first['result']}")
    run(["-m", "peakmem", "--help"], 60)
    print(f"Python {platform.python_version()}, {versions()}; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}.\n")
    print("Median (least–most) of n runs, each in a fresh process.\n")
    print("| file | subject | n | seconds | time / onnx-tool's | peak RSS, MiB | above `import onnx`, MiB | result |")
    print("|---|---|---:|---:|---:|---:|---:|---|", flush=True)
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        for part, title in (
            ("resnet50", "ResNet-50"), ("operators", f"{operators:,} operators"), ("weights", "inline weights"),
        ):  # fmt: skip
            if options.only not in (None, part):
                continue
            path = Path(scratch) / f"{part}.onnx"
            if part == "resnet50":
                subprocess.run([sys.executable, "-c", MAKE_RESNET, str(path)], check=True)
            else:
                make, amount = (make_many, operators) if part == "operators" else (make_large, nbytes)
                child = os.fork()
                if not child:
                    make(path, amount)
                    os._exit(0)
                os.waitpid(child, 0)
            slow = options.slow_repeat if part == "operators" else options.repeat
            runs = measure(path, lambda name, slow=slow: slow if name == COMPARED else options.repeat, options.timeout)
            print("\n".join(rows(title, path.stat().st_size, runs)), flush=True)
            data["files"][part] = {"bytes": path.stat().st_size, "runs": runs}
            path.unlink()
    if options.only in (None, "help"):
        starts = {
            "python -c pass": ["-c", "pass"],
            "import peakmem": ["-c", "import peakmem"],
            "peakmem --help": ["-m", "peakmem", "--help"],
        }
        print("\n| start | n | seconds | peak RSS, MiB | loads |\n|---|---:|---:|---:|---|")
        data["starts"] = {}
        for name, arguments in starts.items():
            entries = [run(arguments, 60) for _ in range(max(options.repeat, 5))]
            code = {"import peakmem": "import peakmem", "peakmem --help": HELP}.get(name, "")
            loads = ", ".join(loaded_by(code)) or f"none of {', '.join(RUNTIMES)}"
            print(
                f"| `{name}` | {len(entries)} | {spread(entries, 'seconds', 1, 3)} "
                f"| {spread(entries, 'peak_bytes', 2**-20, 1)} | {loads} |"
            )
            data["starts"][name] = entries
    if options.json is not None:
        options.json.write_text(json.dumps(data, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
