"""The table of devices: every row can be found by each of its names, and says where its figures are from."""

from __future__ import annotations

import pytest

from peakmem import devices
from peakmem.errors import UsageError

GIB, MIB = 2**30, 2**20


def test_names_are_unique_and_each_finds_its_row():
    names = [name for row in devices.listed() for name in (row.name, *row.aliases)]
    assert len(names) == len(set(names))
    for row in devices.listed():
        for name in (row.name, *row.aliases, row.title, row.name.upper(), row.name.replace("-", " ")):
            assert devices.find(name) is row


@pytest.mark.parametrize("row", devices.listed(), ids=lambda row: row.name)
def test_figures_are_plausible_and_have_sources(row):
    assert row.source.startswith("https://")
    assert 0.8 < row.capacity_bytes / row.memory_bytes < 1.1
    assert (row.usable_bytes is None) == (row.usable_source == "")
    assert (row.context_bytes is None) == (row.context_source == "")
    assert row.usable_bytes is None or row.total_bytes is None or row.usable_bytes < row.total_bytes


def test_what_was_published_of_a_v100():
    """15.78 GiB in torch's messages; a context of 1343 MB, counted in 1024², in the documentation of transformers."""
    row = devices.find("v100-16gb")
    assert row.capacity_bytes == round(15.78 * GIB)
    assert row.context_bytes == 1343 * MIB
    assert (row.capability, row.multiprocessors) == ((7, 0), 80)
    assert devices.largest_context() in (row, devices.find("v100-32gb"))


def test_the_least_that_a_driver_leaves_is_read_from_rows_that_tell_both():
    """NVIDIA A10: 21.99 GiB of 23,028 MiB."""
    assert devices.least_left() == pytest.approx(21.99 * 1024 / 23028)
    row = devices.find("a100-80gb")
    assert row.capacity_bytes == int(81920 * MIB * devices.least_left())


def test_a_short_name_is_enough_where_it_means_one():
    with pytest.raises(UsageError, match=r"several devices.*v100-16gb, v100-32gb"):
        devices.find("v100")


@pytest.mark.parametrize(("typed", "meant"), [("v10016gb", "v100-16gb"), ("rtx4090", "rtx-4090"), ("h20", "h200")])
def test_the_nearest_name_is_offered(typed, meant):
    with pytest.raises(UsageError, match=rf"no device is called.*--device {meant}"):
        devices.find(typed)
