"""`peakmem devices` as people call it, and a file of devices where --device is read."""

from __future__ import annotations

import json

import pytest

MINE = '[[device]]\nname = "my-card"\nlike = "v100-16gb"\nusable = "60 MiB"\nusable_source = "measured here"\n'
TRAIN = ("train", "mobilenet_v2", "--batch", "2", "--route", "graph")


def test_the_list(run):
    code, out, err = run("devices")
    assert (code, err) == (0, "")
    lines = [line.split("\t") for line in out.split("\n")]
    assert lines[1] == ["name", "kind", "RAM", "storage", "a process gets", "weights in flash", "source"]
    by_name = {line[0]: line[1:-1] for line in lines[2:] if len(line) == 7}
    assert by_name["stm32f746"] == ["mcu", "320.00 KiB", "1.00 MiB", "320.00 KiB", "yes"]
    assert by_name["phone-app"] == ["limit", "–", "95.37 MiB", "–", "no"]
    assert by_name["pixel-9"] == ["phone", "11.18 GiB", "–", "≈ 11.18 GiB", "no"]
    assert len(by_name) >= 60


def test_one_kind(run):
    code, out, _ = run("devices", "--kind", "limit", "--units", "si")
    assert code == 0
    assert [line.split("\t")[:4] for line in out.split("\n")[2:3]] == [["phone-app", "limit", "–", "100.00 MB"]]
    assert "stm32" not in out


def test_one_device_with_all_its_sources(run):
    code, out, _ = run("devices", "STM32F746")
    figures = {line.split("\t")[0]: line.split("\t")[1:] for line in out.split("\n") if "\t" in line}
    assert code == 0
    assert figures["RAM as printed"][0] == "320 kB"
    assert figures["RAM"][0] == "320.00 KiB (327,680 B)"
    assert figures["RAM"][1].startswith("https://github.com/probe-rs/probe-rs/blob/")
    assert figures["storage"][0] == "1.00 MiB (1,048,576 B)"
    assert figures["DTCM"] == ["64.00 KiB (65,536 B)"]


def test_json(run):
    code, out, _ = run("devices", "m3-16gb", "--json")
    assert code == 0
    data = json.loads(out)
    assert (data["usable_share"], data["capacity_bytes"], data["unified"]) == (0.74, 12_713_103_196, True)
    code, out, _ = run("devices", "--kind", "phone", "--json")
    assert {row["kind"] for row in json.loads(out)} == {"phone"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("v10016gb",), "no device is called 'v10016gb'"),
        (("24GiB",), "'24GiB' is a size, not a device"),
        (("t4", "--kind", "gpu"), "a name and --kind"),
        (("--kind", "gpus"), "'gpus' is not one of"),
        (("--device-file", "none.toml"), "none.toml is no file"),
    ],
)
def test_what_cannot_be_answered(run, arguments, said):
    code, out, err = run("devices", *arguments)
    assert (code, out) == (2, "")
    assert said in err
    assert err.count("\n") == 1


def test_a_file_of_ones_own(run, tmp_path):
    (tmp_path / "mine.toml").write_text(MINE)
    code, out, _ = run("devices", "my-card", "--device-file", "mine.toml")
    assert code == 0
    assert "a process gets\t60.00 MiB (62,914,560 B)\tmeasured here" in out
    assert "from\tmine.toml" in out
    code, out, err = run(*TRAIN, "--device", "my-card", "--device-file", "mine.toml")
    assert (code, err) == (1, "")
    assert "60.00 MiB" in out
    (tmp_path / "mine.toml").write_text(MINE.replace("usable =", "usabel ="))
    code, _, err = run(*TRAIN, "--device", "my-card", "--device-file", "mine.toml")
    assert code == 2
    assert "mine.toml, line 4: 'usabel' is no key of a device (expected 'usable'?)" in err
    assert run(*TRAIN, "--device", "phone-app")[0] == 2


@pytest.mark.parametrize("name", ["stm32f74", "", "ü", "24GiB"])
def test_a_name_that_is_not_there_is_answered_with_what_this_verb_takes(run, name):
    code, out, err = run("devices", name)
    assert (code, out) == (2, "")
    assert "Try: peakmem devices" in err
    assert "--capacity" not in err
