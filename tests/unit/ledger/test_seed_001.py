"""Claims of the ncnn article: values by hand, and figures as the page of the measurements prints them."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from fractions import Fraction
from pathlib import Path

import pytest

from peakmem.ledger import check_claims
from peakmem.report.ledger import Statement

ROOT = Path(__file__).parents[3]
SEEDS = ROOT / "src" / "peakmem" / "ledger" / "seeds"
ROWS = [
    # line, (size, channels) in, (size, channels) out, elements of the kernel: 224x224x3 at stride 2 is 112x112
    (7, (224, 3), (112, 32), 3 * 3 * 3 * 32),
    (8, (112, 32), (112, 32), 3 * 3 * 32),
    (9, (112, 32), (112, 64), 32 * 64),
    (10, (112, 64), (56, 64), 3 * 3 * 64),
    (11, (56, 64), (56, 128), 64 * 128),
    (12, (56, 128), (56, 128), 3 * 3 * 128),
    (13, (56, 128), (56, 128), 128 * 128),
    (14, (56, 128), (28, 128), 3 * 3 * 128),
    (15, (28, 128), (28, 256), 128 * 256),
    (16, (28, 256), (28, 256), 3 * 3 * 256),
    (17, (28, 256), (28, 256), 256 * 256),
    (18, (28, 256), (14, 256), 3 * 3 * 256),
    (19, (14, 256), (14, 512), 256 * 512),
    (20, (14, 512), (14, 512), 3 * 3 * 512),
    (21, (14, 512), (14, 512), 512 * 512),
    (23, (14, 512), (7, 512), 3 * 3 * 512),
    (24, (7, 512), (7, 1024), 512 * 1024),
    (26, (7, 1024), (7, 1024), 1024 * 1024),
    (28, (1, 1024), (1, 1000), 1024 * 1000),
]
CELLS = {"defaults": "defaults", "light off": "light off"}
FIGURES = {"VmPeak": "vm_peak", "resident": "resident"}


@pytest.fixture(scope="module")
def found() -> dict[str, Statement]:
    return {one.id: one for one in check_claims(SEEDS / "001.yaml").statements}


def value(one: Statement, at: int = 0) -> object:
    return one.computed[at].values[0]


def test_all_statements_have_a_verdict(found: dict[str, Statement]) -> None:
    assert list(found) == [f"S1-{number:02d}" for number in range(1, 90)]
    assert not [one.id for one in found.values() if one.verdict == "not computed"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"line {row[0]}")
def test_rows_of_the_table_by_hand(
    found: dict[str, Statement], row: tuple[int, tuple[int, int], tuple[int, int], int]
) -> None:
    line, (size, channels), (made, maps), kernel = row
    by_hand = 4 * (size * size * channels + made * made * maps + kernel)
    one = next(one for one in found.values() if one.line == line)
    assert value(one) == by_hand
    assert one.claim == f"{by_hand:,} B"
    assert one.verdict == "right"


def test_first_row(found: dict[str, Statement]) -> None:
    assert value(found["S1-06"]) == 4 * (150_528 + 401_408 + 864) == 2_211_200


def test_sum_has_the_repeated_pair_five_times(found: dict[str, Statement]) -> None:
    def nbytes(row: tuple[int, tuple[int, int], tuple[int, int], int]) -> int:
        _, (size, channels), (made, maps), kernel = row
        return 4 * (size * size * channels + made * made * maps + kernel)

    last_depthwise = 4 * (49 * 1024 + 49 * 1024 + 9 * 1024)
    pair = sum(nbytes(row) for row in ROWS if row[0] in (20, 21))
    total = sum(nbytes(row) for row in ROWS) + last_depthwise + 4 * pair
    assert total == 57_587_360
    assert value(found["S1-04"]) == total
    assert (value(found["S1-21"]), value(found["S1-21"], 1), found["S1-21"].verdict) == (5, 4, "ambiguous")
    assert f"{total + pair:,} B" in found["S1-21"].why


def test_wrong_stride(found: dict[str, Statement]) -> None:
    assert value(found["S1-24"]) == 4 * (7 * 7 * 1024 + 4 * 4 * 1024 + 9 * 1024) == 303_104
    assert found["S1-24"].verdict == "wrong"


def test_average_pool(found: dict[str, Statement]) -> None:
    assert [one.values for one in found["S1-26"].computed] == [(0,), (4 * (49 * 1024 + 1024),)]


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("S1-36", 4 * (56 * 56 * 64 + 56 * 56 * 256 + 56 * 56 * 256)),
        ("S1-37", 4 * (112 * 112 * 96 + 56 * 56 * 96 + 112 * 112 * 16)),
        ("S1-38", 112 * 112 * 96 + 56 * 56 * 96 + 112 * 112 * 16),
    ],
)
def test_one_convention_gives_the_table_of_mcunet(found: dict[str, Statement], name: str, held: int) -> None:
    one = found[name]
    assert one.verdict == "ambiguous"
    assert not one.computed[0].true
    assert one.computed[1].true
    assert value(one, 1) == held


@pytest.mark.parametrize(
    ("name", "ratio"),
    [("S1-42", 4), ("S1-43", Fraction(4 * 10**9, 320_000)), ("S1-45", Fraction(64 * 10**9, 10**6))],
)
def test_ratios_of_devices(found: dict[str, Statement], name: str, ratio: Fraction) -> None:
    assert value(found[name]) == ratio
    assert found[name].verdict == ("wrong" if name == "S1-43" else "right")


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("S1-54", 138_357_544), ("S1-55", 61_100_840)],
)
def test_files_without_norms_hold_their_parameters(found: dict[str, Statement], name: str, parameters: int) -> None:
    nbytes = value(found[name])
    assert isinstance(nbytes, int)
    assert 0 < nbytes - 4 * parameters < 20_000
    assert found[name].verdict == "right"


def test_saving_of_light_mode(found: dict[str, Statement]) -> None:
    assert value(found["S1-83"]) == (114_668 - 75_140) * 1024
    assert found["S1-83"].verdict == "wrong"


def test_what_cannot_be_refuted_is_not_wrong(found: dict[str, Statement]) -> None:
    vm_peaks = [found[f"S1-{number}"] for number in range(63, 72)]
    assert Counter(one.verdict for one in vm_peaks) == {"ambiguous": 9}
    assert all("does not tell" in one.why for one in vm_peaks)


def test_measured_figures_are_those_of_the_page() -> None:
    """The page is written from the same run; its table says n, least, median and most in KiB."""
    data = tomllib.loads((SEEDS.parent / "measured.toml").read_text("utf-8"))["ncnn-post"]
    page = (ROOT / data["page"]).read_text("utf-8")
    titles = {"MobileNet": "mobilenet_v1", "ShuffleNetV2": "shufflenet_v2", "MobileNetV2": "mobilenet_v2"}
    pattern = r"^\| (\w+) \| ([\w ]+) \| (VmPeak|resident) \| (\d) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \|$"
    rows = re.findall(pattern, page, re.MULTILINE)
    assert len(rows) == 9 * 2 * 2
    for network, cell, figure, n, *kib in rows:
        stored = data[titles.get(network, network.lower())][f"{CELLS[cell]}.{FIGURES[figure]}"]
        printed = [int(one.replace(",", "")) * 1024 for one in kib]
        assert [stored["n"], stored["min"], stored["median"], stored["max"]] == [int(n), *printed]


@pytest.mark.parametrize(
    ("key", "nbytes"),
    [
        # as docs/measuring/ncnn-post.md says in its sentences on MobileNetV2
        ("fp16 off.heap", 33_733_889),
        ("defaults.heap", 31_176_177),
        ("light off.heap after load", 25_731_065),
        ("defaults.heap after load", 11_848_421),
    ],
)
def test_heap_is_that_of_the_page(key: str, nbytes: int) -> None:
    data = tomllib.loads((SEEDS.parent / "measured.toml").read_text("utf-8"))["ncnn-post"]
    assert data["mobilenet_v2"][key]["median"] == nbytes


def test_answers_lead_to_pages(found: dict[str, Statement]) -> None:
    for one in found.values():
        assert one.verdict != "practice" or one.answer
        assert not one.answer or (ROOT / one.answer).is_file(), one.id
