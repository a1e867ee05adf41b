"""What is said of the machine, on made-up systems and against what the system's own tools say."""

from __future__ import annotations

import getpass
import os
import platform
import socket
import subprocess
from pathlib import Path

import pytest

from peakmem.measuring.machine import caches, chosen, cpu_info, features, machine

X86 = """\
processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R)   Platinum 8488C
flags\t\t: fpu sme smep sse4_1 sse4_2 avx avx2 fma f16c avx512f avx512_vnni amx_bf16 amx_tile avx_vnni
power management:

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """\
processor\t: 0
BogoMIPS\t: 243.75
Features\t: fp asimd evtstrm aes fphp asimdhp asimddp sve i8mm bf16 sb
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""
RISCV = "processor\t: 0\nisa\t: rv64imafdcv_zicbom_zfh_zvfh\nuarch\t: sifive,u74-mc\n"
# of an Intel server, an Arm Neoverse and a SiFive board, shortened


def test_features_that_engines_ask_for():
    assert features(cpu_info(X86)) == (
        "amx_bf16", "amx_tile", "avx", "avx2", "avx512_vnni", "avx512f", "avx_vnni", "f16c", "fma", "sse4_2",
    )  # fmt: skip
    assert features(cpu_info(ARM)) == ("asimd", "asimddp", "asimdhp", "bf16", "fphp", "i8mm", "sve")
    assert features(cpu_info(RISCV)) == ("rv64imafdcv", "zfh", "zvfh")
    assert features(cpu_info("")) == ()


def test_the_setting_in_brackets():
    assert chosen("always [madvise] never\n") == "madvise"
    assert chosen("") == ""


def test_caches(tmp_path):
    rows = [("1", "Data", "48K"), ("1", "Instruction", "32K"), ("2", "Unified", "2048K"), ("3", "Unified", "105M")]
    for number, row in enumerate([*rows, ("", "", "")]):
        folder = tmp_path / f"index{number}"
        folder.mkdir()
        for name, text in zip(("level", "type", "size"), row, strict=True):
            (folder / name).write_text(f"{text}\n")
    assert caches(tmp_path) == {"L1d": 49152, "L1i": 32768, "L2": 2097152, "L3": 110100480}
    assert caches(tmp_path / "none") == {}


@pytest.mark.skipif(platform.system() != "Linux", reason="reads /proc and /sys")
def test_this_machine():
    here = machine()
    assert here.cpus == len(os.sched_getaffinity(0))
    assert here.memory_bytes == os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE")
    assert here.page_bytes == int(subprocess.run(["getconf", "PAGESIZE"], capture_output=True, check=True).stdout)
    assert here.processor
    assert here.kernel.split()[1] in platform.release()
    if platform.libc_ver()[0] == "glibc":
        assert here.libc == f"glibc {platform.libc_ver()[1]}"
    assert here.address_randomisation in ("", "0", "1", "2")
    told = repr(here)
    for personal in (socket.gethostname(), getpass.getuser(), str(Path.cwd()), str(Path.home())):
        assert len(personal) < 3 or f"'{personal}" not in told
