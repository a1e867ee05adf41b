"""The table of devices: every row can be found by each of its names, and says where its figures are from."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction

import pytest

from peakmem import devices
from peakmem.devices.device import ALIGNMENTS, UNVERIFIED
from peakmem.errors import UsageError
from peakmem.rehearsal import capacity_of

KIB, MIB, GIB = 2**10, 2**20, 2**30
GPUS = tuple(row for row in devices.listed() if row.kind == "gpu")


def test_names_are_unique_and_each_finds_its_row():
    names = [name for row in devices.listed() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    for row in devices.listed():
        for name in (row.name, *row.aliases, row.title, row.name.upper(), row.name.replace("-", " ")):
            assert devices.find(name) is row


def test_the_table_has_every_kind_the_guide_names():
    counts = Counter(row.kind for row in devices.listed())
    assert set(counts) == set(devices.KINDS)
    assert counts["mcu"] >= 40
    assert counts["gpu"] >= 30
    families = ("stm32f4", "stm32f7", "stm32h7", "stm32l4", "stm32u5", "stm32n6", "esp32", "nrf5", "rp2", "arduino",
                "teensy", "coral", "jetson", "raspberry-pi", "iphone", "pixel", "galaxy", "rtx-30", "rtx-40",
                "rtx-50", "mi300", "m1", "m2", "m3", "m4")  # fmt: skip
    assert [one for one in families if not any(row.name.startswith(one) for row in devices.listed())] == []


@pytest.mark.parametrize("row", devices.listed(), ids=lambda row: row.name)
def test_every_figure_has_a_source(row):
    told = re.compile(r"https://|http://|arXiv:\d|the same page|" + UNVERIFIED)
    assert row.memory == "" or told.match(row.source)
    assert (row.usable_bytes is None and row.usable_share is None) == (row.usable_source == "")
    assert (row.total_bytes is None) == (row.total_source == "")
    assert (row.context_bytes is None) == (row.context_source == "")
    assert (row.storage_bytes is None) == (row.storage_source == "")
    assert row.weights_in_flash == (row.weights_source != "") or row.name == "coral-dev-board-micro"
    assert row.alignment_source
    assert row.override


@pytest.mark.parametrize("row", devices.listed(), ids=lambda row: row.name)
def test_figures_go_together(row):
    if row.memory_bytes is None:
        assert row.kind == "limit"
        assert row.capacity_bytes is None
        return
    assert row.capacity_bytes is not None
    assert 0.3 < row.capacity_bytes / row.memory_bytes < 1.1
    assert row.usable_bytes is None or row.total_bytes is None or row.usable_bytes < row.total_bytes
    assert sum(nbytes for _, nbytes in row.memories) <= row.memory_bytes
    assert row.arena_bytes is not None
    assert row.arena_bytes <= row.capacity_bytes
    assert row.alignment == ALIGNMENTS[row.kind][0]


@pytest.mark.parametrize("row", GPUS, ids=lambda row: row.name)
def test_a_process_gets_nearly_all_of_a_graphics_card(row):
    assert 0.8 < row.capacity_bytes / row.memory_bytes < 1.1
    assert row.processor == "cuda"


def test_what_was_published_of_a_v100():
    """15.78 GiB in torch's messages; a context of 1343 MB, counted in 1024², in the documentation of transformers."""
    row = devices.find("v100-16gb")
    assert row.capacity_bytes == round(15.78 * GIB)
    assert row.context_bytes == 1343 * MIB
    assert (row.capability, row.multiprocessors) == ((7, 0), 80)
    assert devices.largest_context() in (row, devices.find("v100-32gb"))


def test_the_devices_of_the_texts():
    """STM32F746: 320 kB and 1 MB are 320 KiB and 1 MiB in its memory map, DTCM and SRAM in one run of addresses."""
    row = devices.find("stm32f746")
    assert (row.memory, row.memory_bytes, row.storage, row.storage_bytes) == ("320 kB", 327_680, "1 MB", 1_048_576)
    assert row.memories == (("DTCM", 64 * KIB), ("SRAM", 256 * KIB))
    assert row.arena_bytes == row.capacity_bytes == 327_680
    assert row.weights_in_flash
    phone = devices.find("iPhone 11")
    assert (phone.memory, phone.capacity_bytes, phone.unified) == ("4GB", 2068 * MIB, True)
    limit = devices.find("phone-app")
    assert (limit.kind, limit.memory_bytes, limit.storage_bytes) == ("limit", None, 100_000_000)
    cards = [devices.find(name).memory for name in ("v100-16gb", "v100-32gb", "a100-40gb", "a100-80gb")]
    assert cards == ["16 GB", "32 GB", "40 GB", "80 GB"]


def test_an_arena_is_no_longer_than_the_longest_run_of_addresses():
    """STM32H743: 992 KiB in banks of which AXI SRAM, 512 KiB, stands alone and SRAM1 to 3 make 288 KiB."""
    row = devices.find("stm32h743")
    assert (row.memory_bytes, row.contiguous_bytes, row.arena_bytes) == (992 * KIB, 512 * KIB, 512 * KIB)


def test_what_the_graphics_of_a_mac_get():
    """Metal recommends two thirds of 16 GiB on an M1: 10922.67 MiB; 0.74 of 16 GiB on an M3 of another macOS."""
    row = devices.find("m1-16gb")
    assert row.capacity_bytes == pytest.approx(16 * GIB * 2 / 3, abs=8 * KIB)
    share = devices.find("m3-16gb")
    assert share.usable_share == Fraction(74, 100)
    assert share.capacity_bytes == 16 * GIB * 74 // 100
    assert "74.0%" in share.capacity_said


def test_where_nobody_says_what_is_left_it_is_at_most_all():
    row = devices.find("pixel-9")
    assert (row.capacity_known, row.capacity_bytes) == (False, 12_000_000_000)
    assert devices.find("stm32f746").capacity_known
    assert devices.find("a100-80gb").capacity_known


def test_the_least_that_a_driver_leaves_is_read_from_rows_that_tell_both():
    """NVIDIA A10: 21.99 GiB of 23,028 MiB."""
    assert devices.least_left() == pytest.approx(21.99 * 1024 / 23028)
    row = devices.find("l40s")
    assert row.capacity_bytes == int(46068 * MIB * devices.least_left())
    assert "97.8% of the 44.99 GiB that nvidia-smi shows" in row.capacity_said


def test_a_limit_of_storage_is_no_memory_for_a_process():
    with pytest.raises(UsageError, match=r"phone app, typical limit limits storage, not memory"):
        capacity_of(devices.find("phone-app"))


def test_a_short_name_is_enough_where_it_means_one():
    with pytest.raises(UsageError, match=r"several devices.*v100-16gb, v100-32gb"):
        devices.find("v100")
    with pytest.raises(UsageError, match=r"several devices.*m1-8gb, m1-16gb"):
        devices.find("Apple M1")
    assert devices.find("NVIDIA A100-SXM4-80GB").name == "a100-80gb"
    assert devices.find("Raspberry Pi Pico").name == "rp2040"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("v10016gb", "v100-16gb"), ("rtx4090", "rtx-4090"), ("h20", "h200"), ("stm32f74", "stm32f746"),
     ("iphone11", "iphone-11")],
)  # fmt: skip
def test_the_nearest_name_is_offered(typed, meant):
    with pytest.raises(UsageError, match=rf"no device is called.*\d+ devices: peakmem devices.*--device {meant}"):
        devices.find(typed)


def test_a_size_is_no_device():
    with pytest.raises(UsageError, match=r"'24GiB' is a size, not a device.*--capacity 24GiB"):
        devices.find("24GiB")
    with pytest.raises(UsageError, match=r"no device is called ''"):
        devices.find("")


def test_where_nobody_says_what_the_system_leaves_the_least_of_its_kind_is_sure():
    pi = devices.find("raspberry-pi-5-8gb")
    told = [one for one in devices.listed() if one.kind == "board" and one.capacity_known]
    least = min(one.capacity_bytes / one.memory_bytes for one in told)
    assert not pi.capacity_known
    assert pi.sure_bytes == pytest.approx(pi.memory_bytes * min(1, least), abs=1)
    assert pi.sure_bytes < pi.capacity_bytes
    card = devices.find("v100-16gb")
    assert card.sure_bytes == card.capacity_bytes
