"""What a device or a size offers, and how its number may be read."""

from __future__ import annotations

import pytest

from peakmem.errors import UsageError
from peakmem.fitting.place import place, readings


def test_a_size_is_ram_alone():
    found = place("24GiB")
    assert (found.ram.capacity_bytes, found.storage, found.kind) == (24 << 30, None, "")
    assert found.flags == ("--device", "24GiB")


def test_a_microcontroller_has_flash_and_ram():
    found = place("stm32f746")
    assert (found.ram.capacity_bytes, found.storage.capacity_bytes) == (320 << 10, 1 << 20)
    # RM0385: 320 Kbytes of SRAM, 1 Mbyte of flash, both binary
    assert (found.ram.name, found.storage.name, found.weights_in_flash, found.alignment) == ("RAM", "flash", True, 16)


def test_what_is_typed_counts_before_the_table():
    found = place("stm32f746", ram="256KiB", reserve="16KiB")
    assert (found.ram.capacity_bytes, found.storage.capacity_bytes, found.reserve_bytes) == (256 << 10, 1 << 20, 16384)
    assert found.flags == ("--device", "stm32f746", "--ram", "256KiB", "--reserve", "16KiB")


def test_a_limit_has_storage_alone():
    found = place("phone-app")
    assert (found.ram, found.storage.capacity_bytes) == (None, 100_000_000)


@pytest.mark.parametrize(
    ("printed", "others"),
    [
        ("100 MB", [("100 MB", 100_000_000), ("100 MiB", 104_857_600)]),
        ("100MiB", [("100 MB", 100_000_000), ("100 MiB", 104_857_600)]),
        ("320 kB", [("320 kB", 320_000), ("320 KiB", 327_680)]),
        ("16 GB", [("16 GB", 16_000_000_000), ("16 GiB", 17_179_869_184)]),
        ("4096", []),
        ("4096 B", []),
    ],
)
def test_the_other_sense_of_a_unit(printed, others):
    assert list(readings(place(storage=printed).storage)) == others


def test_memory_that_a_driver_told_has_one_reading():
    """16 GB is what is printed; a process gets 15.78 GiB, which is no printed number."""
    assert readings(place("v100-16gb").ram) == ()


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "no device is named and no size"),
        ({"device": "stm32f74"}, "stm32f746"),
        ({"device": "4GiB", "ram": "2GiB"}, "twice"),
        ({"device": "4Gx"}, "no device is called"),
        ({"ram": "4 Gx"}, "is not a size"),
        ({"ram": "0"}, "--ram is 0 B"),
        ({"ram": "-4GiB"}, "--ram is -4GiB"),
        ({"device": "4GiB", "reserve": "-1"}, "--reserve is -1"),
        ({"device": "4GiB", "runtime": "1MB"}, "--storage SIZE"),
        ({"device": "phone-app", "reserve": "1MB"}, "--ram SIZE"),
    ],
)
def test_what_is_no_place_is_refused(asked, said):
    with pytest.raises(UsageError, match=said):
        place(**asked)
