"""The rules of the allocator on cases worked out by hand from c10/cuda/CUDACachingAllocator.cpp."""

from __future__ import annotations

import pytest

from peakmem.errors import UsageError
from peakmem.training.allocator import Allocator, OutOfMemory, Settings
from peakmem.training.allocator.blocks import Driver, round_size, segment_size
from peakmem.training.allocator.settings import MIB

KIB = 1024


def made(conf="", capacity=None, **settings):
    return Allocator(Settings.parse(conf, Settings(**settings)), driver=Driver(capacity))


@pytest.mark.parametrize(
    ("nbytes", "size"),
    [(0, 512), (1, 512), (512, 512), (513, 1024), (1 << 20, 1 << 20), ((1 << 20) + 1, (1 << 20) + 512)],
)  # fmt: skip
def test_sizes_are_rounded_to_512_bytes(nbytes, size):
    assert round_size(nbytes, Settings()) == size


@pytest.mark.parametrize(
    ("nbytes", "divisions", "size"),
    # 1200 between 1024 and 2048 in four parts: 1024, 1280, 1536, 1792 (the comment in CUDACachingAllocator.cpp),
    # but up to 512 times the divisions sizes are only rounded to 512
    [(1200, 4, 1536), (2049, 4, 2560), (1200 * KIB, 4, 1280 * KIB), (1280 * KIB, 4, 1280 * KIB),
     (1 << 21, 4, 1 << 21), ((1 << 21) + 1, 1, (1 << 21) + 512), ((1 << 21) + 1, 2, 3 << 20), (600, 1 << 30, 1024)],
)  # fmt: skip
def test_sizes_are_rounded_to_parts_of_a_power_of_two(nbytes, divisions, size):
    assert round_size(nbytes, Settings(roundup_power2=(divisions,) * 16)) == size


def test_each_power_of_two_has_its_own_rounding():
    # 64 MB and less in 8 parts, 128 MB in 2, 2 GB and more not: c10/test/core/AllocatorConfig_test.cpp
    settings = Settings.parse("roundup_power2_divisions:[64:8,128:2,256:4,512:2,1024:4,>:1]")
    assert settings.roundup_power2 == (8,) * 7 + (2, 4, 2, 4) + (1,) * 5
    assert round_size(65 * MIB, settings) == 72 * MIB
    assert round_size(129 * MIB, settings) == 192 * MIB
    assert round_size(2049 * MIB + 1, settings) == 2049 * MIB + 512
    other = Settings.parse("roundup_power2_divisions:[128:8,256:16,512:1,2048:8,>:2]")
    assert other.roundup_power2 == (8,) * 8 + (16, 1, 0, 8, 2, 2, 2, 2)


@pytest.mark.parametrize(
    ("size", "segment"),
    [(512, 2 * MIB), (MIB, 2 * MIB), (MIB + 512, 20 * MIB), (10 * MIB - 512, 20 * MIB), (10 * MIB, 10 * MIB),
     (10 * MIB + 512, 12 * MIB), (99 * MIB, 100 * MIB)],
)  # fmt: skip
def test_segments(size, segment):
    assert segment_size(size, Settings()) == segment


def test_small_and_large_requests_do_not_share_a_segment():
    allocator = made()
    first, second, large = allocator.malloc(1000), allocator.malloc(3 * KIB), allocator.malloc(2 * MIB)
    assert second.address == first.address + 1024
    assert large.address not in range(first.address, first.address + 2 * MIB)
    assert (allocator.reserved, allocator.allocated) == (22 * MIB, 4 * KIB + 2 * MIB)
    assert allocator.requested == 1000 + 3 * KIB + 2 * MIB


def test_what_is_not_worth_a_split_counts_as_allocated():
    allocator = made()
    # 12 MiB + 1 B in a segment of 14 MiB: 2 MiB - 512 B are split off; 11 MiB in 12 MiB: 1 MiB is not more than 1 MiB
    allocator.malloc(12 * MIB + 1)
    assert allocator.allocated == 12 * MIB + 512
    allocator.malloc(11 * MIB)
    assert allocator.allocated == 24 * MIB + 512
    assert allocator.inactive_split() == 2 * MIB - 512


def test_the_smallest_block_that_fits_then_the_lowest_address():
    allocator = made()
    blocks = [allocator.malloc(size * MIB) for size in (40, 30, 30, 50)]
    addresses = [block.address for block in blocks]
    for block in blocks:
        allocator.free(block)
    assert allocator.malloc(29 * MIB + 1).address == addresses[1]
    assert allocator.malloc(29 * MIB + 1).address == addresses[2]
    assert allocator.malloc(29 * MIB + 1).address == addresses[0]


@pytest.mark.parametrize(("order", "first"), [("address", 0), ("segment", 1), ("block", 1)])
def test_ties_are_broken_by_address_or_by_what_came_first(order, first):
    # Falling addresses: the segment made first lies highest.
    allocator = Allocator(Settings(order=order), driver=Driver(descending=True))
    blocks = [allocator.malloc(30 * MIB) for _ in range(2)]
    addresses = sorted(block.address for block in blocks)
    for block in blocks:
        allocator.free(block)
    assert allocator.malloc(30 * MIB).address == addresses[first]


def test_neighbours_merge_when_they_become_free():
    allocator = made()
    blocks = [allocator.malloc(5 * MIB) for _ in range(4)]  # one segment of 20 MiB
    assert allocator.reserved == 20 * MIB
    allocator.free(blocks[0])
    allocator.free(blocks[2])
    assert allocator.malloc(6 * MIB).address not in {block.address for block in blocks}
    allocator.free(blocks[1])
    assert allocator.malloc(15 * MIB).address == blocks[0].address
    assert allocator.inactive_split() == 14 * MIB  # behind the 6 MiB


def test_a_block_that_a_stream_still_uses_is_active_but_not_allocated():
    allocator = made()
    block = allocator.malloc(30 * MIB)
    allocator.record_stream(block)
    allocator.free(block)
    assert (allocator.allocated, allocator.active, allocator.requested) == (0, 30 * MIB, 30 * MIB)
    assert allocator.malloc(30 * MIB).address != block.address
    allocator.complete(block)
    assert allocator.malloc(30 * MIB).address == block.address
    with pytest.raises(ValueError, match="waits for no stream"):
        allocator.complete(block)


def test_streams_do_not_share_free_blocks():
    allocator = made()
    block = allocator.malloc(30 * MIB, stream=1)
    allocator.free(block)
    assert allocator.malloc(30 * MIB, stream=2).address != block.address
    assert allocator.malloc(30 * MIB, stream=1).address == block.address


def test_private_pools_do_not_share_free_blocks_and_keep_them():
    allocator = made()
    block = allocator.malloc(30 * MIB, owner=(0, 1))
    allocator.free(block)
    assert allocator.malloc(30 * MIB).address != block.address
    allocator.empty_cache()
    assert allocator.malloc(30 * MIB, owner=(0, 1)).address == block.address


def test_freeing_twice_is_a_mistake():
    allocator = made()
    block = allocator.malloc(1)
    allocator.free(block)
    with pytest.raises(ValueError, match="is not allocated"):
        allocator.free(block)


def test_cached_segments_go_back_before_memory_runs_out():
    allocator = made(capacity=100 * MIB)
    kept, freed = allocator.malloc(40 * MIB), allocator.malloc(50 * MIB)
    allocator.free(freed)
    allocator.malloc(60 * MIB)
    assert (allocator.reserved, allocator.retries) == (100 * MIB, 1)
    assert [what.split("_")[1] for what, _, _ in allocator.asked] == ["alloc", "alloc", "free", "alloc"]
    with pytest.raises(OutOfMemory) as fault:
        allocator.malloc(3 * MIB + 100)
    stop = fault.value
    assert (stop.tried_bytes, stop.requested_bytes, stop.limit_bytes) == (20 * MIB, 3 * MIB + 100, 100 * MIB)
    assert (stop.allocated_bytes, stop.reserved_bytes) == (100 * MIB, 100 * MIB)
    assert kept.allocated


def test_the_share_of_a_process_limits_it():
    allocator = made("per_process_memory_fraction:0.5", capacity=100 * MIB)
    allocator.malloc(40 * MIB)
    with pytest.raises(OutOfMemory) as fault:
        allocator.malloc(12 * MIB)
    assert fault.value.limit_bytes == 50 * MIB


def test_blocks_of_max_split_size_are_neither_split_nor_given_to_small_requests():
    allocator = made("max_split_size_mb:30")
    large = allocator.malloc(60 * MIB)
    allocator.free(large)
    assert allocator.malloc(20 * MIB).address != large.address
    # 41 MiB leave 19 MiB, less than the 20 MiB that are allowed; 40 MiB leave 20 MiB
    other = allocator.malloc(40 * MIB)
    assert other.address != large.address
    assert allocator.malloc(41 * MIB).address == large.address
    assert allocator.allocated == (20 + 40 + 60) * MIB


def test_with_max_split_size_only_what_a_request_needs_goes_back():
    allocator = made("max_split_size_mb:30", capacity=140 * MIB)
    blocks = [allocator.malloc(size * MIB) for size in (40, 30, 60)]
    for block in blocks:
        allocator.free(block)
    allocator.malloc(90 * MIB)  # none is large enough: the largest first, until 90 MiB are reached
    given = [size // MIB for what, _, size in allocator.asked if what == "segment_free"]
    assert given == [60, 40]
    assert allocator.reserved == (30 + 90) * MIB


def test_old_segments_are_collected_above_the_threshold():
    allocator = made("garbage_collection_threshold:0.5,per_process_memory_fraction:0.5", capacity=400 * MIB)
    old, young, _, other = (allocator.malloc(size * MIB) for size in (40, 30, 36, 11))
    allocator.free(old)  # after four searches
    for _ in range(3):
        allocator.free(other)
        other = allocator.malloc(11 * MIB)
    allocator.free(young)  # after seven
    allocator.malloc(60 * MIB)
    # The eighth finds nothing, and 118 MiB are 18 more than half of 200 MiB. Ages are 4 and 1, the mean is 2.5.
    assert [size // MIB for what, _, size in allocator.asked if what == "segment_free"] == [40]
    assert allocator.reserved == (30 + 36 + 12 + 60) * MIB


def test_expandable_segments_grow_by_pages_and_always_split():
    allocator = made("expandable_segments:True")
    first = allocator.malloc(15 * MIB)  # one page of 20 MiB
    second = allocator.malloc(10 * MIB)  # 5 MiB are there: one page more
    assert second.address == first.address + 15 * MIB
    base = first.address
    assert allocator.asked == [("segment_map", base, 20 * MIB), ("segment_map", base + 20 * MIB, 20 * MIB)]
    assert (allocator.allocated, allocator.reserved) == (25 * MIB, 40 * MIB)
    small = allocator.malloc(100)
    assert allocator.asked[-1] == ("segment_map", small.address, 2 * MIB)
    third = allocator.malloc(15 * MIB - 512)
    assert third.size == 15 * MIB - 512
    assert third.next is not None
    assert third.next.size == 512


def test_pages_without_a_busy_block_are_unmapped_and_mapped_again():
    allocator = made("expandable_segments:True", capacity=100 * MIB)
    first, second, third = (allocator.malloc(30 * MIB) for _ in range(3))  # pages up to 40, 60 and 100 MiB
    base = first.address
    allocator.free(second)  # 30 to 60 MiB: only the page from 40 to 60 MiB is free of others
    allocator.empty_cache()
    assert allocator.asked[-1] == ("segment_unmap", base + 40 * MIB, 20 * MIB)
    assert allocator.reserved == 80 * MIB
    again = allocator.malloc(25 * MIB)
    assert again.address == base + 30 * MIB
    assert allocator.asked[-1] == ("segment_map", base + 40 * MIB, 20 * MIB)
    with pytest.raises(OutOfMemory):
        allocator.malloc(30 * MIB)
    for block in (first, third, again):
        allocator.free(block)
    allocator.empty_cache()
    assert (allocator.reserved, allocator.segments) == (0, {})


def test_a_request_larger_than_any_span_of_addresses_gets_its_own():
    allocator = made("expandable_segments:True")
    assert allocator.malloc(3 << 40).size == 3 << 40


@pytest.mark.parametrize(
    "conf",
    ["", "default", "expandable_segments", "expandable_segments:yes", "max_split_size_mb:19", "max_split_size_mb:1.5",
     "garbage_collection_threshold:1.5", "garbage_collection_threshold:x", "roundup_power2_divisions:3",
     "roundup_power2_divisions:[256]", "roundup_power2_divisions:[0:1]", "roundup_power2_divisions:[256:1",
     "backend:cudaMallocAsync", "unknown:1", "large_segment_size_mb:9", "max_split_size_mb:20,large_segment_size_mb:25",
     "per_process_memory_fraction:2", "max_split_size_mb:" + "9" * 40, "x:" + "y" * 5000],
)  # fmt: skip
def test_settings_that_torch_does_not_take(conf):
    if not conf:
        assert Settings.parse(conf) == Settings()
        return
    with pytest.raises(UsageError):
        Settings.parse(conf)


def test_settings_of_text_and_of_a_record():
    settings = Settings.parse(
        "max_split_size_mb:128, expandable_segments:True,pinned_use_background_threads:True,"
        "garbage_collection_threshold:0.6"
    )
    assert settings == Settings(max_split_bytes=128 * MIB, expandable=True, collect_above=0.6)
    assert str(settings) == "expandable_segments:True,max_split_size_mb:128,garbage_collection_threshold:0.6"
    assert str(Settings()) == "default"
    stated = {
        "PYTORCH_CUDA_ALLOC_CONF": "max_non_split_rounding_mb:40", "max_split_size": 64 * MIB,
        "garbage_collection_threshold": 0.0, "expandable_segments": False, "roundup_power2_divisions": {"1": 4, "2": 0},
    }  # fmt: skip
    expected = Settings(max_split_bytes=64 * MIB, round_over_bytes=40 * MIB, roundup_power2=(4, *(0,) * 15))
    assert Settings.of_record(stated) == expected
    assert Settings.of_record({"max_split_size": -1}) == Settings()


@pytest.mark.parametrize(
    "stated",
    [{"max_split_size": "x"}, {"roundup_power2_divisions": {"3": 1}}, {"roundup_power2_divisions": [1]},
     {"garbage_collection_threshold": 7}, {"expandable_segments": 1}, {"roundup_power2_divisions": {"1": -4}}],
)  # fmt: skip
def test_damaged_settings_of_a_record(stated):
    with pytest.raises(UsageError, match="damaged"):
        Settings.of_record(stated)
