"""Claims of published tables, and of tables made wrong on purpose; every expected number is arithmetic done here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from peakmem.claims import Asked, check
from peakmem.claims.cells import cell
from peakmem.claims.changes import slips
from peakmem.conventions import CONVENTIONS
from peakmem.dtypes import INT8
from peakmem.errors import UsageError
from peakmem.frontends.table.reader import read_rows
from peakmem.units import readings

DATA = Path(__file__).parents[1] / "data" / "layer_tables"

# kernel side, channels in and out, stride, side of the input: a chain that is easy to do by hand
CHAIN = [(3, 3, 32, 2, 224), (3, 32, 64, 1, 112), (3, 64, 64, 2, 112), (1, 64, 128, 1, 56), (3, 128, 128, 2, 56)]


def parts(kernel, inside, outside, stride, side):
    """(input, output, kernel, bias) in elements."""
    out = -(-side // stride)
    return inside * side * side, outside * out * out, kernel * kernel * inside * outside, outside


def in_out_kernel(*row):
    return 4 * sum(parts(*row)[:3])


def table(tmp_path, header, cells, *, chain=CHAIN, total=None, strides=None, head=""):
    """A Markdown table of the chain with one column of claims."""
    lines = [f"| Layer | Kernel | Stride | Input | {header} |", "|---|---|---|---|---|"]
    for at, ((kernel, inside, outside, stride, side), claim) in enumerate(zip(chain, cells, strict=True)):
        shown = strides[at] if strides else stride
        lines.append(f"| conv | {kernel}x{kernel}x{inside}x{outside} | {shown} | {side}x{side}x{inside} | {claim} |")
    if total is not None:
        lines.append(f"| total | | | | {total} |")
    path = tmp_path / "table.md"
    path.write_text(f"{head}\n" + "\n".join(lines) + "\n", encoding="utf-8")
    return read_rows(path)


def verdicts(report, column):
    return [claim.verdict for claim in report.claims if claim.column == column]


def first(claim):
    return claim.explanations[0]


# -- published tables --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mobilenet_v1_benchmark.md", "mobilenet_v1_benchmark.csv"])
def test_the_benchmark_table_and_its_mislabelled_row(name):
    report = check(read_rows(DATA / name))
    memory = "Memory Usage (bs=1, input + output + conv params)"
    wrong = [claim for claim in report.claims if claim.verdict == "wrong"]
    assert [(claim.row, claim.column) for claim in wrong] == [(19, memory), (20, "Input Size")]
    # by hand: (7*7*1024 + 4*4*1024 + 9*1024) * 4 as labelled, (7*7*1024 * 2 + 9*1024) * 4 as printed
    assert wrong[0].value == (7 * 7 * 1024 + 4 * 4 * 1024 + 9 * 1024) * 4 == 303_104
    assert (first(wrong[0]).where, first(wrong[0]).change) == ("row 19", "stride 1 instead of 2")
    assert first(wrong[0]).value == f"{(2 * 7 * 7 * 1024 + 9 * 1024) * 4:,} B" == "438,272 B"
    assert first(wrong[0]).support == "row 20 reads 7x7x1024"
    assert (first(wrong[1]).where, first(wrong[1]).change) == ("row 19", "stride 1 instead of 2")
    # All other 19 numbers are right to the byte, and all other inputs follow from the rows before.
    assert verdicts(report, memory).count("right") == 20  # with the maximum
    assert verdicts(report, "Input Size").count("right") == 18
    (column,) = report.columns
    assert (column.reading.convention, column.reading.unit, column.reading.dtype) == ("layer_in_out_weights", "B",
                                                                                      "float32")  # fmt: skip
    assert (column.reading.right, column.claims, column.stated) == (19, 20, ("quantity", "unit"))
    repair = report.repairs[0]
    assert (repair.where, repair.change, repair.makes_true) == ("row 19", "stride 1 instead of 2", 2)


def test_the_sum_row_adds_up_its_rows_and_is_true_once_the_label_is_mended():
    report = check(read_rows(DATA / "mobilenet_v1_benchmark.md"))
    total = next(claim for claim in report.claims if claim.layer == "sum")
    assert total.verdict == "ambiguous"
    assert total.value == 57_587_360 - (438_272 - 303_104)
    assert "adds up the printed rows" in total.reason
    assert first(total).change == "with row 19: stride 1 instead of 2"
    assert first(total).value == "57,587,360 B"
    largest = next(claim for claim in report.claims if claim.layer == "max")
    assert (largest.verdict, largest.value) == ("right", 4_825_088)


def test_the_benchmark_table_mended_has_a_right_sum(tmp_path):
    path = tmp_path / "mended.md"
    text = (DATA / "mobilenet_v1_benchmark.md").read_text(encoding="utf-8")
    path.write_text(text.replace("conv dw/s2 | 3×3×1024", "conv dw/s1 | 3×3×1024"), encoding="utf-8")
    report = check(read_rows(path))
    assert (report.right, report.wrong, report.ambiguous) == (41, 0, 0)
    path.write_text(path.read_text(encoding="utf-8").replace("57587360 bytes", "57M bytes"), encoding="utf-8")
    (total,) = (claim for claim in check(read_rows(path)).claims if claim.layer == "sum")
    # "roughly 57M": 57.59 million rounds to 58.
    assert (total.verdict, total.value) == ("wrong", 57_587_360)
    assert "the digits cut off, not rounded" in [one.change for one in total.explanations]


def test_the_paper_s_own_table_has_the_same_label():
    report = check(read_rows(DATA / "mobilenet_v1_paper.md"))
    (wrong,) = (claim for claim in report.claims if claim.verdict == "wrong")
    assert (wrong.row, wrong.recomputed, first(wrong).change) == (20, "4x4x1024", "stride 1 instead of 2")


def test_alexnet_counts_biases():
    report = check(read_rows(DATA / "alexnet.csv"))
    assert (report.right, report.wrong, report.ambiguous) == (27, 0, 0)
    assert report.columns[0].reading.quantity == "kernel + bias"
    by_hand = (11 * 11 * 3 + 1) * 96 + (5 * 5 * 96 + 1) * 256 + (9 * 256 + 1) * 384 + (9 * 384 + 1) * 384
    by_hand += (9 * 384 + 1) * 256 + (9216 + 1) * 4096 + (4096 + 1) * 4096 + (4096 + 1) * 1000
    assert report.claims[-1].value == by_hand == 62_378_344


def test_mobilenet_v2_chains():
    report = check(read_rows(DATA / "mobilenet_v2_paper.md"))
    assert (report.right, report.wrong, report.ambiguous) == (10, 0, 0)


# -- tables made wrong -------------------------------------------------------------------


def test_a_right_table(tmp_path):
    claims = [f"{in_out_kernel(*row):,}" for row in CHAIN]
    total = sum(in_out_kernel(*row) for row in CHAIN)
    report = check(table(tmp_path, "Memory (bytes)", claims, total=total))
    assert (report.wrong, report.ambiguous, report.unchecked) == (0, 0, 0)
    assert report.right == 5 + 4 + 1  # numbers, inputs after the first, the total
    assert report.repairs == ()


def test_a_unit_swapped(tmp_path):
    claims = [f"{in_out_kernel(*row) / 2**20:.3f}" for row in CHAIN]
    total = f"{sum(in_out_kernel(*row) for row in CHAIN) / 2**20:.3f}"
    report = check(table(tmp_path, "Memory (MB)", claims, total=total))
    assert verdicts(report, "Memory (MB)") == ["wrong"] * 6
    assert [repair.change for repair in report.repairs] == ["MiB instead of MB"]
    assert report.repairs[0].makes_true == 6
    assert (report.columns[0].reading.unit, report.columns[0].others[0].unit) == ("MB", "MiB")
    assert report.columns[0].others[0].right == 5
    told = check(table(tmp_path, "Memory (MB)", claims, total=total), Asked(unit="MiB"))
    assert told.wrong == 0


def test_a_convention_swapped(tmp_path):
    claims = [f"{4 * sum(parts(*row)[:2])}" for row in CHAIN]
    report = check(table(tmp_path, "bytes (input + output + weights)", claims))
    assert [repair.change for repair in report.repairs] == ["input + output instead of input + output + kernel"]
    assert report.repairs[0].makes_true == 5
    # Without a formula in the header the numbers say what is meant.
    report = check(table(tmp_path, "bytes", claims))
    assert (report.wrong, report.columns[0].reading.convention) == (0, "layer_in_out")
    report = check(table(tmp_path, "bytes", claims), Asked(convention="layer_in_out_weights"))
    assert verdicts(report, "bytes") == ["wrong"] * 5


def test_a_stride_swapped(tmp_path):
    claims = [in_out_kernel(*row) for row in CHAIN]
    strides = [2, 1, 1, 1, 2]
    report = check(table(tmp_path, "Memory (bytes)", claims, strides=strides))
    wrong = [claim for claim in report.claims if claim.verdict == "wrong"]
    assert [(claim.row, claim.column) for claim in wrong] == [(3, "Memory (bytes)"), (4, "Input")]
    assert all((first(claim).where, first(claim).change) == ("row 3", "stride 2 instead of 1") for claim in wrong)


def test_a_bias_missing_in_one_row(tmp_path):
    counts = [sum(parts(*row)[2:]) for row in CHAIN]
    counts[3] -= CHAIN[3][2]
    report = check(table(tmp_path, "Parameters", counts))
    (wrong,) = (claim for claim in report.claims if claim.verdict == "wrong")
    assert (wrong.row, wrong.value, wrong.off.split(",")[0]) == (4, 64 * 128 + 128, "-128")
    assert first(wrong).change == "kernel instead of kernel + bias"


def test_norms_counted_among_the_parameters(tmp_path):
    counts = [parts(*row)[2] + 2 * row[2] for row in CHAIN]
    report = check(table(tmp_path, "#Params", counts))
    assert report.wrong == 0
    assert report.columns[0].reading.quantity == "kernel + batch norm's scale and shift"


def test_a_dtype_swapped(tmp_path):
    claims = [in_out_kernel(*row) // 2 for row in CHAIN]
    report = check(table(tmp_path, "bytes (in + out + weights)", claims, head="dtype: fp32"))
    assert [repair.change for repair in report.repairs] == ["float16 instead of float32"]
    assert check(table(tmp_path, "bytes (in + out + weights)", claims)).wrong == 0  # the table says no dtype
    report = check(table(tmp_path, "bytes (in + out + weights)", [claim // 2 for claim in claims]), Asked(dtype=INT8))
    assert report.wrong == 0


@pytest.mark.parametrize(
    ("at", "value", "change"),
    [
        (1, 4 * (32 * 112**2 + 64 * 112**2 + 9 * 32), None),
        (2, 2 * in_out_kernel(*CHAIN[2]), "counted twice"),
        (1, 4 * (16 * (32 + 64) * 112**2 + 9 * 32 * 64), "batch 16"),
        (3, in_out_kernel(*CHAIN[4]), "the layer of row 5 (conv): the label or the value stands a row off"),
        (3, in_out_kernel(3, 64, 128, 1, 56), "a 3x3 kernel instead of 1x1"),
        (1, in_out_kernel(3, 32, 64, 1, 224), "input 224x224 instead of 112x112, off by a stride"),
        (1, 4 * (32 * 112**2 + 32 * 112**2 + 9 * 32), "a depthwise convolution, not a full one"),
        (3, in_out_kernel(1, 64, 64, 1, 56), "64 channels out instead of 128"),
        (3, in_out_kernel(*CHAIN[3]) + 20, "one digit is another: 2441216"),
        (3, 2_414_216, "two digits have changed places: 2441216"),
        (2, in_out_kernel(*CHAIN[2]) + 12_345, None),
    ],
)
def test_a_single_number_is_explained(tmp_path, at, value, change):
    claims = [in_out_kernel(*row) for row in CHAIN]
    claims[at] = value
    report = check(table(tmp_path, "bytes (input + output + weights)", claims))
    (wrong,) = (claim for claim in report.claims if claim.verdict == "wrong")
    assert (wrong.row, wrong.value) == (at + 1, in_out_kernel(*CHAIN[at]))
    if change is None:
        assert wrong.explanations == ()
        assert wrong.off.startswith(f"{value - wrong.value:+,}")
    else:
        assert change in [one.change for one in wrong.explanations]


def test_two_changes_at_once(tmp_path):
    claims = [in_out_kernel(*row) for row in CHAIN]
    claims[2] = in_out_kernel(3, 64, 64, 1, 112) // 4
    report = check(table(tmp_path, "bytes (input + output + weights)", claims, head="dtype: fp32"))
    (wrong,) = (claim for claim in report.claims if claim.verdict == "wrong")
    assert first(wrong).change == "stride 1 instead of 2, and int8 instead of float32"


def test_repeated_rows_in_a_sum(tmp_path):
    row = (3, 8, 8, 1, 16)
    nbytes = in_out_kernel(*row)
    text = "type,kernel,input,bytes (in + out + weights)\nconv,3x3x8x8,16x16x8,{}\n… x5,,,\nsum,,,{}\n"
    for times, verdict, change in (
        (5, "right", ""), (1, "wrong", "repeated rows counted once"),
        (6, "wrong", "repeated rows counted once more than they stand"),
    ):  # fmt: skip
        path = tmp_path / "t.csv"
        path.write_text(text.format(nbytes, times * nbytes), encoding="utf-8")
        total = check(read_rows(path)).claims[-1]
        assert total.verdict == verdict
        assert change in [one.change for one in total.explanations] or not change


def test_a_row_for_all_its_copies_is_ambiguous(tmp_path):
    path = tmp_path / "t.csv"
    text = "type,kernel,input,params\nconv,3x3x8x8,16x16x8,576\nconv x4,3x3x8x8,16x16x8,2304\n"
    path.write_text(text, encoding="utf-8")
    last = check(read_rows(path)).claims[-1]
    assert (last.verdict, last.reason) == ("ambiguous", "true for all 4 of the row together")


def test_zeros_that_may_only_fill_up_are_ambiguous(tmp_path):
    claims = [f"{round(4 * parts(*row)[1], -4):,}" for row in CHAIN]
    report = check(table(tmp_path, "output (bytes)", claims, head="dtype: fp32"))
    assert set(verdicts(report, "output (bytes)")) == {"ambiguous"}
    assert "if the zeros behind only fill up" in report.claims[0].reason


def test_printed_outputs_are_claims(tmp_path):
    path = tmp_path / "t.md"
    path.write_text(
        "| Type | Kernel | Stride | Output |\n|---|---|---|---|\n| input | | | 32x32x3 |\n"
        "| conv | 3x3x3x8 | 2 | 16x16x8 |\n| conv | 3x3x8x16 | 2 | 16x16x16 |\n| fc | 4096x10 | | 10 |\n",
        encoding="utf-8",
    )
    report = check(read_rows(path))
    assert [(claim.row, claim.recomputed, claim.verdict) for claim in report.claims] == [
        (2, "16x16x8", "right"), (3, "8x8x16", "wrong"), (4, "10", "right"),
    ]  # fmt: skip
    assert first(report.claims[1]).change == "stride 1 instead of 2"


def test_a_table_without_claims(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("conv 3x3x3x8 in 8x8x3\n", encoding="utf-8")
    with pytest.raises(UsageError, match="claims nothing"):
        check(read_rows(path))
    with pytest.raises(UsageError, match="no convention 'weights' counts layer by layer"):
        check(read_rows(DATA / "mobilenet_v1_benchmark.md"), Asked(convention="weights"))


@pytest.mark.parametrize("name", [name for name, rule in CONVENTIONS.items() if rule.per_layer is not None])
def test_every_convention_that_counts_layer_by_layer_is_tried(tmp_path, name):
    layers = {"sum_outputs": slice(1, 2), "layer_in_out": slice(0, 2)}.get(name, slice(0, 3))
    claims = [4 * sum(parts(*row)[layers]) for row in CHAIN]
    report = check(table(tmp_path, "bytes", claims), Asked(convention=name))
    assert report.wrong == 0
    found = check(table(tmp_path, "bytes", claims)).columns[0].reading.convention
    assert CONVENTIONS[found].per_layer is CONVENTIONS[name].per_layer


# -- small parts -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number", "places", "unit"),
    [
        ("2211200 bytes", 2211200, 0, "bytes"), ("4.8M bytes", 48, 1, "m bytes"), ("about 57M", 57, 0, "m"),
        ("1,024", 1024, 0, ""), ("0.50 MB", 50, 2, "mb"), ("224*224*64=3.2M", 32, 1, "m"),
        ("4.2 million parameters", 42, 1, "m"), ("**12 KiB**", 12, 0, "kib"),
    ],
)  # fmt: skip
def test_cells(text, number, places, unit):
    found = cell(0, 0, text)
    assert found is not None
    assert (found.number, found.places, found.unit) == (number, places, unit)


@pytest.mark.parametrize("text", ["", "—", "n/a", "5-8 MB", "TB~PB", "1 2 three"])
def test_what_is_no_number(text):
    assert cell(0, 0, text) is None


def test_readings_of_units():
    assert readings("MB") == (("MB", 10**6),)
    assert readings("MiB") == (("MiB", 2**20),)
    assert readings("M bytes") == (("MB", 10**6), ("MiB", 2**20))
    assert readings("bytes") == (("B", 1),)
    assert readings("furlong") == ()


def test_slips_of_the_pen():
    assert slips("1234567", "1234567") == slips("123", "124") == slips("1234567", "7654321") == ""
    assert slips("1234567", "1234568").startswith("one digit")
    assert slips("1243567", "1234567").startswith("two digits")


def test_the_report_is_plain_data():
    report = check(read_rows(DATA / "mobilenet_v1_benchmark.md"))
    data = json.loads(report.to_json())
    assert data["schema"] == "peakmem.claims/1"
    assert (data["right"], data["wrong"], data["ambiguous"]) == (38, 2, 1)
    assert len(data["claims"]) == 41
