"""How long weight files of 20 GiB take, and how much memory: safetensors, GGUF and a .pt archive.

    python benchmarks/sparse.py [--gib 20] [--folder DIR]

The files are sparse: their headers are real and their weights are holes, so that they take a few
KiB of disk. Each is read in a fresh process; its peak memory stands beside that of a process that
only starts. Prints a Markdown table; exits with 1 when a file takes 1 s or 100 MiB more.
"""

from __future__ import annotations

import argparse
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

LIMIT_SECONDS, LIMIT_BYTES = 1.0, 100 << 20
TENSORS = 320
# a model of 20 GiB has a few hundred of them


def sizes(total: int) -> list[int]:
    """Elements of float16 in each tensor, multiples of 4096, `total` bytes in all."""
    each = total // 2 // TENSORS // 4096 * 4096
    return [each] * (TENSORS - 1) + [total // 2 - each * (TENSORS - 1)]


def safetensors(path: Path, total: int) -> None:
    header, offset = {}, 0
    for at, count in enumerate(sizes(total)):
        span = [offset, offset + 2 * count]
        header[f"model.layers.{at}.weight"] = {"dtype": "F16", "shape": [count // 4096, 4096], "data_offsets": span}
        offset = span[1]
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)


def gguf(path: Path, total: int) -> None:
    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    tokens = 128_256
    keys = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    keys += text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, tokens)
    keys += b"".join(text(f"token{at}") for at in range(tokens))
    entries, offset = b"", 0
    for at, count in enumerate(sizes(total)):
        entries += text(f"blk.{at}.ffn_up.weight") + struct.pack("<IQQIQ", 2, 4096, count // 4096, 1, offset)
        offset += 2 * count
    start = struct.pack("<4sIQQ", b"GGUF", 3, TENSORS, 2) + keys + entries
    start += bytes(-len(start) % 32)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + offset)


def pickled(counts: list[int]) -> bytes:
    """What torch.save pickles for a dictionary of float16 matrices, opcode by opcode."""

    def text(value: str) -> bytes:
        return b"X" + struct.pack("<I", len(value)) + value.encode()

    def number(value: int) -> bytes:
        return b"\x8a\x08" + struct.pack("<q", value)

    data = b"\x80\x02}("
    for at, count in enumerate(counts):
        storage = (
            b"(" + text("storage") + b"ctorch\nHalfStorage\n" + text(str(at)) + text("cpu") + number(count) + b"tQ"
        )
        shape, strides = number(count // 4096) + number(4096) + b"\x86", number(4096) + number(1) + b"\x86"
        arguments = b"(" + storage + number(0) + shape + strides + b"\x89ccollections\nOrderedDict\n)Rt"
        data += text(f"layers.{at}.weight") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R"
    return data + b"u."


def checkpoint(path: Path, total: int) -> None:
    """A zip archive with 64-bit offsets, as torch.save writes it, its storages left out as holes."""
    counts = sizes(total)
    members = [("archive/data.pkl", pickled(counts), 0), ("archive/byteorder", b"little", 0)]
    members.append(("archive/version", b"3\n", 0))
    members += [(f"archive/data/{at}", b"", 2 * count) for at, count in enumerate(counts)]
    directory = b""
    with path.open("wb") as file:
        for name, data, hole in members:
            at, size = file.tell(), len(data) + hole
            wide = struct.pack("<HHQQ", 1, 16, size, size)
            head = (45, 0, 0, 0, 0, zlib.crc32(data), 0xFFFFFFFF, 0xFFFFFFFF, len(name))
            file.write(struct.pack("<4sHHHHHIIIHH", b"PK\3\4", *head, len(wide)) + name.encode() + wide + data)
            file.seek(hole, os.SEEK_CUR)
            extra = struct.pack("<HHQQQ", 1, 24, size, size, at)
            directory += struct.pack("<4sHHHHHHIIIHHHHHII", b"PK\1\2", 45, *head, len(extra), 0, 0, 0, 0, 0xFFFFFFFF)
            directory += name.encode() + extra
        start = file.tell()
        file.write(directory)
        end = file.tell()
        count = len(members)
        file.write(struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, count, count, len(directory), start))
        file.write(struct.pack("<4sIQI", b"PK\6\7", 0, end, 1))
        file.write(struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


FORMATS: dict[str, Callable[[Path, int], None]] = {
    "model.safetensors": safetensors, "model.gguf": gguf, "model.pt": checkpoint,
}  # fmt: skip

_MEASURED = """
import json, resource, sys, time
start = time.perf_counter()
found = 0
if len(sys.argv) > 1:
    import peakmem
    found = peakmem.estimate(sys.argv[1]).weights_bytes
print(json.dumps([found, time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024]))
"""


def measured(*arguments: str) -> tuple[int, float, int, float]:
    """(bytes found, seconds inside, peak bytes, seconds of the whole process) of a fresh process.

    The process is started by a bare one, because Linux lets a peak begin at what the parent held.
    """
    relay = "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-c', *sys.argv[1:]]).returncode)"
    start = time.perf_counter()
    command = [sys.executable, "-c", relay, _MEASURED, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    whole = time.perf_counter() - start
    found, seconds, peak = json.loads(done.stdout)
    return found, seconds, peak, whole


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gib", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=None, help="where the sparse files are made")
    chosen = parser.parse_args()
    total = chosen.gib << 30
    good = True
    bare = min(measured()[2] for _ in range(3))
    print("| file | bytes | on disk | seconds, import and read | seconds, process | memory over a bare process |")
    print("|---|---:|---:|---:|---:|---:|")
    with TemporaryDirectory(dir=chosen.folder) as folder:
        for name, make in FORMATS.items():
            path = Path(folder) / name
            make(path, total)
            runs = [measured(str(path)) for _ in range(3)]
            seconds, memory = min(run[1] for run in runs), max(run[2] for run in runs) - bare
            whole = min(run[3] for run in runs)
            status = path.stat()
            print(
                f"| {name} | {status.st_size:,} | {status.st_blocks * 512 >> 10:,} KiB | {seconds:.2f} "
                f"| {whole:.2f} | {memory / (1 << 20):.1f} MiB |"
            )
            good &= all(run[0] == total for run in runs) and seconds < LIMIT_SECONDS and memory < LIMIT_BYTES
            path.unlink()
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
