"""Pasted rows of top, with the four that this project's first benchmark was published with."""

from __future__ import annotations

import pytest

from peakmem.errors import FormatError
from peakmem.measuring.top import read_top

PASTED = """\
light_mode=false, peak about 86M:
| PID | USER | PR | NI | VIRT | RES | SHR | S | %CPU | %MEM | TIME+ | COMMAND |
|---|---|---|---|---|---|---|---|---|---|---|---|
| 18179 | root | 20 | 0 | 114668 | 94992 | 5468 | R | 49.5 | 4.7 | 0:09.71 | check_peak_memo |
light_mode=true, peak about 76M:
| PID | USER | PR | NI | VIRT | RES | SHR | S | %CPU | %MEM | TIME+ | COMMAND |
|---|---|---|---|---|---|---|---|---|---|---|---|
| 18597 | root | 20 | 0 | 75140 | 55440 | 5508 | R | 49.3 | 2.7 | 0:10.27 | check_peak_memo |
| 18871 | root | 20 | 0 | 75140 | 55360 | 5436 | R | 49.3 | 2.7 | 0:15.72 | check_peak_memo |
| 19148 | root | 20 | 0 | 75140 | 55296 | 5364 | R | 49.2 | 2.7 | 0:10.44 | check_peak_memo |

| Layer | Memory |
|---|---|
| fc | 4104096 bytes |
"""
# rows of the article "NCNN Peak Memory Benchmark" on MobileNetV2 (seed 001), its layout shortened

COLUMNS = """\
top - 14:00:25 up 1 day,  1 user,  load average: 0.10, 0.05, 0.01
MiB Mem :  24105.0 total,  20000.1 free

    PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND
   4242 ann       20   0   10.5g   1.2g   5508 R  99.0   4.7   0:09.71 python -c x | y
      1 root      20   0  114,5m  94992   5468 S   0.0   0.1   1:00.00 init
"""


def test_the_rows_of_the_published_benchmark():
    rows = read_top(PASTED)
    assert [row.pid for row in rows] == [18179, 18597, 18871, 19148]
    assert [row.sizes["VIRT"] for row in rows] == [114668 * 1024, 75140 * 1024, 75140 * 1024, 75140 * 1024]
    assert [row.sizes["RES"] // 1024 for row in rows] == [94992, 55440, 55360, 55296]
    assert [row.sizes["SHR"] // 1024 for row in rows] == [5468, 5508, 5436, 5364]
    assert {row.command for row in rows} == {"check_peak_memo"}
    assert all(row.exact for row in rows)
    assert [row.above.split(",")[0] for row in rows] == ["light_mode=false", *["light_mode=true"] * 3]
    assert [row.line for row in rows] == [4, 8, 9, 10]
    assert rows[0].virt_bytes - rows[1].virt_bytes == 39528 * 1024
    # 38.6 MiB between the two, where the article says 10M


def test_columns_with_scaled_sizes():
    first, second = read_top(COLUMNS)
    assert first.command == "python -c x | y"
    assert first.sizes == {"VIRT": round(10.5 * 2**30), "RES": round(1.2 * 2**30), "SHR": 5508 * 1024}
    assert not first.exact
    assert second.virt_bytes == round(114.5 * 2**20)
    assert second.res_bytes == 94992 * 1024


def test_colours_of_a_terminal_are_passed_over():
    assert read_top("\x1b[7m PID VIRT COMMAND\x1b[0m\n\x1b[1m 1 20 a\x1b(B\x1b[m\n")[0].virt_bytes == 20 * 1024


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no rows of top"),
        ("PID VIRT\n", "no rows of top"),
        ("| PID | VIRT |\n|---|---|\n| 1 | 2 | 3 |\n", "line 3: 3 columns, the header has 2"),
        ("PID VIRT\n1\n", "line 2: 1 columns"),
        ("PID VIRT COMMAND\nx 1 a\n", "line 2: PID is 'x'"),
        ("PID VIRT COMMAND\n1 1 a\n1 - a\n", "line 3: VIRT is '-'"),
        ("PID VIRT COMMAND\n1 1.5 a\n", "line 2: VIRT is '1.5'"),
        ("PID VIRT COMMAND\n1 114,668 a\n", "line 2: VIRT is '114,668'"),
        ("PID VIRT COMMAND\n1 -5 a\n", "line 2: VIRT is '-5'"),
        ("PID VIRT COMMAND\n1 \uff15 a\n", "line 2: VIRT"),
        (f"PID VIRT COMMAND\n1 {'9' * 5000} a\n", "line 2: VIRT"),
        (f"PID VIRT COMMAND\n{'9' * 5000} 1 a\n", "line 2: PID"),
        ("PID VIRT VIRT\n1 2 3\n", "line 1: column VIRT stands twice"),
    ],
)
def test_rows_that_do_not_fit(text, message):
    with pytest.raises(FormatError) as caught:
        read_top(text)
    assert message in str(caught.value)
