"""The layer table against the one published in "NCNN Peak Memory Benchmark" (MobileNetV1)."""

import peakmem
from peakmem.binding import bound
from peakmem.layers import groups
from peakmem.pipeline import load
from peakmem.study import Study

# kernel, input (height x width x channels), bytes. The row 3x3x1024 is labelled "dw/s2" there; its
# bytes are those of stride 1, and only stride 1 leads to the 7x7x1024 of the next row.
PUBLISHED = [
    ("3x3x3x32", "2", "224x224x3", 2_211_200), ("3x3x32", "1", "112x112x32", 3_212_416),
    ("1x1x32x64", "1", "112x112x32", 4_825_088), ("3x3x64", "2", "112x112x64", 4_016_384),
    ("1x1x64x128", "1", "56x56x64", 2_441_216), ("3x3x128", "1", "56x56x128", 3_215_872),
    ("1x1x128x128", "1", "56x56x128", 3_276_800), ("3x3x128", "2", "56x56x128", 2_011_648),
    ("1x1x128x256", "1", "28x28x128", 1_335_296), ("3x3x256", "1", "28x28x256", 1_614_848),
    ("1x1x256x256", "1", "28x28x256", 1_867_776), ("3x3x256", "2", "28x28x256", 1_012_736),
    ("1x1x256x512", "1", "14x14x256", 1_126_400), ("3x3x512", "1", "14x14x512", 821_248),
    ("1x1x512x512", "1", "14x14x512", 1_851_392), ("3x3x512", "2", "14x14x512", 520_192),
    ("1x1x512x1024", "1", "7x7x512", 2_398_208), ("3x3x1024", "1", "7x7x1024", 438_272),
    ("1x1x1024x1024", "1", "7x7x1024", 4_595_712), ("1024x1000", "", "1024", 4_104_096),
]  # fmt: skip
REPEATED = (13, 14)
# the two rows that stand five times


def paper_shape(text: str) -> str:
    """1x32x112x112 → 112x112x32."""
    batch, channels, *window = text.split("x")
    assert batch == "1"
    return "x".join([*window, channels])


def test_every_published_row_the_sum_and_the_maximum():
    table = peakmem.estimate("mobilenet_v1").layer_table
    rows = [
        (table.rows[group.first + at], group.times)
        for group in table.groups
        for at in range(group.count)
        if table.rows[group.first + at].nbytes is not None
    ]
    assert [(row.kernel, row.stride, paper_shape(row.input), row.nbytes) for row, _ in rows] == PUBLISHED
    assert [times for _, times in rows] == [5 if at in REPEATED else 1 for at in range(len(PUBLISHED))]
    assert table.sum_bytes == 57_587_360
    assert (table.max_bytes, table.max_at) == (4_825_088, "Conv2d_1/pointwise")


def test_the_columns_add_up():
    for network in ("mobilenet_v2", "googlenet", "gpt2_small"):
        report = peakmem.estimate(network, convention="sum_outputs")
        table = report.layer_table
        assert sum(row.nbytes or 0 for row in table.rows) == table.sum_bytes
        assert max(row.nbytes or 0 for row in table.rows) == table.max_bytes
        assert sum(group.count * group.times for group in table.groups) == len(table.rows)


def test_groups_rebuild_the_rows():
    study = Study(bound(load("densenet161")))
    rows = study.layers("eager")
    rebuilt = []
    for group in groups(rows):
        rebuilt += list(group.rows) * group.times
    assert [(row.op_type, row.kernel, row.output_shape) for row in rebuilt] == [
        (row.op_type, row.kernel, row.output_shape) for row in rows
    ]
    assert groups([]) == []
