"""`peakmem fit`, as it is typed: what it prints, its exit codes, and each change as the plain command with it."""

from __future__ import annotations

import json
import shlex

import pytest

from peakmem.report.codec import from_json, schema
from peakmem.report.fit import Fit

SMALL = "mobilenet_v2:width=0.35,classes=10"


def test_it_fits(run):
    asked = ("--device", "stm32f746", "--dtype", "int8", "--grow", "batch,width")
    code, out, err = run("fit", f"{SMALL},resolution=96", *asked)
    assert (code, err) == (0, "")
    assert out.startswith("# mobilenet_v2:width=0.35,classes=10,resolution=96, inference, on STM32F746NG\nfits: ")
    assert "# Changes" not in out


def test_it_does_not_fit_and_says_what_would(run):
    code, out, err = run(
        "fit", SMALL, "--device", "stm32f746", "--dtype", "int8", "--units", "bytes", "--grow", "resolution"
    )
    assert (code, err) == (1, "")
    assert "does not fit: over in RAM by 424,960 B; 2.30 times the capacity" in out
    assert "cheapest change that fits: resolution=128" in out
    (line,) = [line for line in out.split("\n") if line.startswith("resolution\t")]
    assert line.split("\t")[:5] == ["resolution", "146", "321,504", "147", "328,560"]


def test_it_may_fit(run):
    """Without a published context the largest there is bounds it: 112,074,400 B more than 200 MiB less 1343 MiB."""
    code, out, err = run("fit", "resnet50", "--device", "a100-40gb", "--ram", "200MiB", "--try", "none")
    assert code == 2
    assert "may fit" in out
    assert err == "peakmem: error: may fit: the estimate fits, its bound does not\n"


def test_it_cannot_be_told(run, tmp_path):
    (tmp_path / "net.yaml").write_text("name: x\n")
    code, _, err = run("fit", "net.yaml", "--device", "1GiB")
    assert code == 2
    assert err.startswith("peakmem: error: ")


def test_columns_add_up(run):
    _, out, _ = run("fit", "vgg16", "--device", "iphone-11", "--storage", "100 MB", "--reserve", "100MiB")
    tables = out.split("\n\n")
    seen = 0
    for table in tables:
        lines = [line.split("\t") for line in table.split("\n")]
        if not lines[0][0].startswith("# What "):
            continue
        sizes = {line[0]: int(line[2].replace(",", "")) for line in lines[2:]}
        assert sum(size for name, size in sizes.items() if name != "total") == sizes["total"]
        seen += 1
    assert seen == 2


@pytest.mark.parametrize(
    ("model", "flags"),
    [
        (SMALL, ("--device", "stm32f746", "--file", "weights")),
        ("resnet50", ("--device", "phone-app")),
        ("vgg16", ("--device", "24GiB", "--batch", "2048")),
    ],
)
def test_each_change_is_what_its_command_says(run, model, flags):
    code, out, _ = run("fit", model, *flags, "--json", "-", "--grow", "none")
    report = from_json(out, Fit)
    assert code == 1
    assert any(one.rank for one in report.changes)
    for one in report.changes:
        words = shlex.split(one.command)
        assert words[:2] == ["peakmem", "fit"]
        code, out, _ = run(*words[1:], "--json", "-", "--try", "none", "--grow", "none")
        again = from_json(out, Fit)
        assert tuple((part.name, part.needed_bytes) for part in again.parts) == one.needed
        assert again.outcome == one.outcome
        assert code == {"fits": 0, "does not fit": 1}[one.outcome]


def test_changes_that_are_named(run):
    _, out, _ = run("fit", "mobilenet_v2", "--device", "8MiB", "--change", "dtype=int8,resolution=96", "--grow", "none")
    rows = [line.split("\t") for line in out.split("# Changes")[1].split("\n")[2:5]]
    assert [row[1] for row in rows] == ["dtype=int8", "resolution=96", "dtype=int8 + resolution=96"]
    assert [row[2] for row in rows] == ["fits", "does not fit", "fits"]


def test_json_has_its_schema(run):
    _, out, _ = run("fit", "resnet50", "--device", "phone-app", "--json", "-", "--try", "none")
    assert json.loads(out)["schema"] == "peakmem.fit/1" == schema("fit")["title"]


def test_files_get_the_same(run, tmp_path):
    code, out, _ = run("fit", "resnet50", "--device", "phone-app", "--write", "tsv=fit.tsv", "--write", "md=fit.md")
    assert code == 1
    assert (tmp_path / "fit.tsv").read_text() == out
    assert "| storage |" in (tmp_path / "fit.md").read_text()


def test_a_user_s_device(run, tmp_path):
    (tmp_path / "mine.toml").write_text('[[device]]\nname = "tiny"\nlike = "stm32f746"\nmemory = "64 KiB"\n')
    code, out, _ = run(
        "fit", SMALL, "--device", "tiny", "--device-file", "mine.toml", "--dtype", "int8", "--grow", "none"
    )
    assert code == 1
    assert "--device tiny --device-file mine.toml" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("resnet50",), "no device is named and no size"),
        (("resnet50", "--device", "stm32f74"), "Try: --device stm32f746"),
        (("resnet50", "--device", "4GiB", "--reserve", "-5"), "--reserve is -5"),
        (("resnet50", "--device", "4GiB", "--change", "dtype=int9"), "no dtype is called"),
        (("resnet50", "--device", "4GiB", "--change", "nothing"), "no change is called"),
        (("resnet50", "--device", "4GiB", "--set", "lightmode=off"), "--engine NAME"),
        (("resnet50", "--device", "4GiB", "--processor", "arch=aarch64"), "--processor is for engines"),
        (("resnet50", "--device", "4GiB", "--resolution", "96"), "mobilenet_v2:resolution=96"),
        (("resnet50", "--device", "4GiB", "--optimizer", "adam"), "--train --optimizer"),
        (("resnet50", "--device", "4GiB", "--with", "amp"), "--train --with"),
        (("squeezenet1_1", "--device", "4GiB", "--train", "--with", "ampp"), "there is no what-if 'ampp'"),
        (("squeezenet1_1", "--device", "4GiB", "--train", "--grow", "width"), "there is no 'width' to grow"),
        (("resnet50", "--device", "4GiB", "--train", "--dtype", "int8"), "--precision float16"),
        (("resnet50", "--device", "stm32f746", "--train"), "PyTorch trains nothing"),
        (("resnet50", "--device", "phone-app", "--train"), "only storage is known"),
        (("no_such.onnx", "--device", "4GiB"), "no_such.onnx"),
    ],
)
def test_what_is_refused(run, arguments, said):
    code, out, err = run("fit", *arguments)
    assert (code, out) == (2, "")
    assert said in err


def test_training_is_the_same_question(run):
    """Followed through the graph, so that no torch is needed: what `peakmem train` says with that capacity."""
    asked = ("squeezenet1_1", "--batch", "2", "--route", "graph")
    _, out, _ = run("train", *asked, "--device", "cuda", "--capacity", "2GiB", "--json", "-")
    verdict = json.loads(out)["verdict"]
    code, out, _ = run("fit", *asked, "--train", "--device", "2GiB", "--json", "-", "--try", "none")
    (part,) = json.loads(out)["parts"]
    assert (part["needed_bytes"], part["outcome"]) == (verdict["point_bytes"], verdict["outcome"])
    assert code == {"fits": 0, "does not fit": 1, "may fit": 2}[part["outcome"]]


def test_memory_of_two_kinds(run, tmp_path):
    """The first in the list that holds the arena does; one that needs both at once is no single arena."""
    (tmp_path / "mine.toml").write_text(
        '[[device]]\nname = "two"\ntitle = "Two"\nkind = "mcu"\nmemory = "192 KiB"\nsource = "me"\n'
        'storage = "1 MiB"\nstorage_source = "me"\nweights_in_flash = true\nweights_source = "me"\n'
        'memories = ["SRAM 64 KiB at 0x20000000", "PSRAM 128 KiB at 0x3c000000"]\n'
    )
    said = {}
    for size in (48, 80, 100, 128):
        code, out, _ = run(
            "fit", f"mobilenet_v2:width=0.35,classes=2,resolution={size}", "--device", "two",
            "--device-file", "mine.toml", "--dtype", "int8", "--try", "none", "--grow", "none",
        )  # fmt: skip
        said[size] = code, out.split("\n")[1:3]
    # live peaks are 60 times the square of half the resolution: 34,560, 96,000, 150,000 and 245,760 B
    assert [code for code, _ in said.values()] == [0, 0, 2, 1]
    assert said[48][1][1] == "RAM: the arena lies in SRAM"
    assert said[80][1][1] == "RAM: the arena lies in PSRAM"
    assert "with several arenas" in said[100][1][1]


def test_each_change_of_a_training_step_is_what_its_command_says(run):
    """Those over several devices, and those that only run at the limit, too: the same bytes and the same verdict."""
    pytest.importorskip("torch", reason="torch is not installed")
    from peakmem.training.tracing.cuda import available

    if reason := available():
        pytest.skip(reason)
    asked = ("--batch", "64", "--optimizer", "adam", "--device", "40MiB", "--reserve", "10MiB")
    code, out, _ = run("fit", "lstm_2layer:sequence=8", "--train", *asked, "--json", "-", "--grow", "none")
    report = from_json(out, Fit)
    assert (code, report.largest) == (1, ())
    assert any(one.names[0].startswith(("devices=", "fsdp=")) for one in report.changes)
    assert any(dict(one.needed)["GPU memory"] == 30 << 20 for one in report.changes if one.rank)
    for one in report.changes:
        words = shlex.split(one.command)
        assert words[:2] == ["peakmem", "fit"]
        code, out, _ = run(*words[1:], "--json", "-", "--try", "none", "--grow", "none")
        again = from_json(out, Fit)
        assert tuple((part.name, part.needed_bytes) for part in again.parts) == one.needed, one.command
        assert (again.outcome, code) == (one.outcome, {"fits": 0, "does not fit": 1, "may fit": 2}[one.outcome])
