"""Files of devices that users write: what they say, and what is told when they are wrong, with the line."""

from __future__ import annotations

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem import devices
from peakmem.devices.lines import places
from peakmem.devices.row import KEYS
from peakmem.errors import UsageError

BOARD = """\
# ours
[[device]]
name = "my-board"
kind = "mcu"
memory = "320 Kbytes"
memory_exact = "320 KiB"
storage = "1 MiB"
memories = ["fast 64 KiB at 0x1000", "slow 256 KiB at 0x20000"]
alignment = 32
"""


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a file of devices in a folder of its own: its name."""
    monkeypatch.chdir(tmp_path)

    def write(text: str, name: str = "mine.toml") -> str:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return name

    return write


def test_a_row_of_a_user(file):
    (row,) = devices.read(file(BOARD))
    assert (row.name, row.kind, row.title, row.memory) == ("my-board", "mcu", "my-board", "320 Kbytes")
    assert (row.memory_bytes, row.storage_bytes, row.alignment) == (327_680, 1_048_576, 32)
    assert (row.contiguous_bytes, row.arena_bytes) == (262_144, 262_144)
    assert row.weights_in_flash
    assert row.origin == row.source == row.storage_source == "mine.toml"


def test_both_forms_say_the_same(file):
    listed = (
        'devices = [\n  {name = "a", kind = "board", memory = "1 GB"},\n  {name = "b", kind = "mcu", memory = 4096}]\n'
    )
    tables = (
        '[[device]]\nname = "a"\nkind = "board"\nmemory = "1 GB"\n[[device]]\nname = "b"\nkind = "mcu"\nmemory = 4096\n'
    )
    assert devices.read(file(listed)) == devices.read(file(tables))


def test_a_row_like_another_changes_what_it_says(file):
    text = '[[device]]\nname = "ours"\nlike = "v100-16gb"\nusable = "15 GiB"\nusable_source = "nvidia-smi here"\n'
    (row,) = devices.read(file(text))
    base = devices.find("v100-16gb")
    assert (row.capacity_bytes, row.memory_bytes, row.context_bytes) == (
        15 * 2**30,
        base.memory_bytes,
        base.context_bytes,
    )
    assert row.usable_source == "nvidia-smi here"
    assert row.source.startswith("like v100-16gb: ")
    (row,) = devices.read(file('[[device]]\nname = "half"\nlike = "m1-16gb"\nusable_share = 0.5\n'))
    assert row.capacity_bytes == 8 * 2**30
    assert row.usable_source == "mine.toml"
    (row,) = devices.read(file('[[device]]\nname = "big"\nlike = "stm32f746"\nmemory = "1 MiB"\n'))
    assert (row.capacity_bytes, row.arena_bytes, row.memories) == (2**20, 2**20, ())


def test_a_row_may_be_like_one_above_it_or_in_a_file_before(file):
    first = file(
        '[[device]]\nname = "a"\nkind = "mcu"\nmemory = "8 KiB"\n[[device]]\nname = "b"\nlike = "a"\n', "first.toml"
    )
    second = file('[[device]]\nname = "c"\nlike = "b"\nstorage = "1 MiB"\n', "second.toml")
    rows = devices.using([first, second])
    assert devices.find("c", rows).memory_bytes == 8192
    with pytest.raises(UsageError, match="no device is called 'c'"):
        devices.find("c")


def test_a_row_with_the_name_of_a_built_in_one_stands_in_its_place(file):
    rows = devices.using([file('[[device]]\nname = "t4"\nkind = "gpu"\nmemory = "20 GiB"\n')])
    assert devices.find("t4", rows).memory_bytes == 20 * 2**30
    assert len(rows) == len(devices.listed())
    assert devices.find("t4").memory == "16 GB"


def test_two_files_with_one_name(file):
    names = [file('[[device]]\nname = "a"\nkind = "mcu"\nmemory = "8 KiB"\n', name) for name in ("a.toml", "b.toml")]
    with pytest.raises(UsageError, match=r"b.toml: device 'a' stands in a.toml already"):
        devices.using(names)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('storge = "1 MiB"', r"line 6: 'storge' is no key of a device \(expected 'storage'\?\). Try: storage = …"),
        ('flash = "1 MiB"', r"line 6: 'flash' is no key of a device \(expected 'storage'\?\)"),
        ('quux = "1 MiB"', r"line 6: 'quux' is no key of a device \(expected one of name, title"),
        ('storage = "1 M"', r"line 6: storage '1 M' is not a size .*KiB"),
        ('storage = "1 MoB"', r"line 6: storage '1 MoB' is not a size"),
        ('storage = "-1 MiB"', r"line 6: storage is negative, -1 MiB"),
        ("storage = -4096", r"line 6: storage is negative, -4096"),
        ('storage = "0 MiB"', r"line 6: storage is 0 MiB \(expected a size above 0"),
        ("storage = 1.5", r"line 6: storage is a number without a unit"),
        ("storage = true", r"line 6: storage is true or false"),
        ('storage = ""', r"line 6: storage '' is not a size"),
        ('storage = "9999999999 PiB"', r"line 6: storage is 9999999999 PiB"),
        ('usable = "9 MiB"', r"line 6: usable of 9.00 MiB is more than the memory of device 'a', 8 MB"),
        ('contiguous = "9 MiB"', r"line 6: contiguous of 9.00 MiB is more"),
        ('memories = ["a 9 MiB"]', r"line 6: memories of 9.00 MiB is more"),
        ('memories = ["a"]', r"line 6: a memory 'a' is not understood \(expected NAME SIZE \[at ADDRESS\]\)"),
        ('memories = "a 1 KiB"', r"line 6: memories is not a list"),
        ('memory_exact = "9 MiB"', r"line 6: memory_exact of 9,437,184 B is not what '8 MB' may mean"),
        ("usable_share = 1.5", r"line 6: usable_share is 1.5 \(expected a share above 0 and at most 1\)"),
        ("usable_share = 0", r"line 6: usable_share is 0"),
        ("usable_share = nan", r"line 6: usable_share is NaN"),
        ("usable_share = -inf", r"line 6: usable_share is -Infinity"),
        ('usable_share = "half"', r"line 6: usable_share is a text"),
        ('usable = "1 MiB"\nusable_share = 0.5', r"line 7: device 'a' says usable and usable_share"),
        ("weights_in_flash = true", r"line 6: device 'a' has weights in flash and no storage"),
        ('weights_in_flash = "yes"', r"line 6: weights_in_flash is a text \(expected true or false\)"),
        ("alignment = 48", r"line 6: an alignment of 48 B \(expected a power of two\)"),
        ("alignment = 0", r"line 6: alignment is 0 \(expected a whole number above 0\)"),
        ('capability = "8"', r"line 6: capability '8' \(expected two numbers\)"),
        ('aliases = "b"', r"line 6: aliases is not a list of texts"),
        ("note = 3", r"line 6: note is a number"),
        ('like = "stm32f74"', r"line 6: no device is called 'stm32f74'.*like = \"stm32f746\""),
        ("this is no TOML", r"line 6: not TOML: expected '=' after a key"),
        ('name = "b"', r"line 6: not TOML: cannot overwrite a value"),
        ('[[device]]\nname = "a"\nkind = "mcu"\nmemory = "1 MB"', r"line 7: device 'a' is there already in line 3"),
        ("[other]", r"line 6: 'other' is no key in a file of devices"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(file, line, said):
    name = file(f'# ours\n[[device]]\nname = "a"\nkind = "board"\nmemory = "8 MB"\n{line}\n')
    with pytest.raises(UsageError, match=f"^mine.toml, {said}"):
        devices.read(name)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mine.toml has no device"),
        ("devices = []", "mine.toml has no device"),
        ("device = 3", "mine.toml, line 1: 'device' is a number"),
        ("[device]\nname = 'a'", "mine.toml, line 1: 'device' is a table .*expected a list of tables"),
        ("devices = [3]", "mine.toml, line 1: 'devices' is a list"),
        ("[[devcie]]\nname = 'a'", r"mine.toml, line 1: 'devcie' is no key in a file of devices \(expected 'device'"),
        ("[[device]]\nkind = 'mcu'", "mine.toml, line 1: a device without a name"),
        ("[[device]]\nname = 'My Board'", "mine.toml, line 2: a name 'My Board'"),
        ("[[device]]\nname = 'a'", r"mine.toml, line 1: device 'a' has no kind \(expected one of gpu"),
        ("[[device]]\nname = 'a'\nkind = 'mcus'", "mine.toml, line 3: no kind of device is called 'mcus'.*\"mcu\""),
        ("[[device]]\nname = 'a'\nkind = 'mcu'", "mine.toml, line 1: device 'a' has neither memory nor storage"),
        ("[[device]]\nname = 'a'\nkind = 'mcu'\nstorage = '1 MB'", "mine.toml, line 1: device 'a' has no memory"),
        ("device = [{name = 'a'}]\n[[devices]]\nname = 'b'", r"mine.toml has \[\[device\]\] and devices"),
        ("a = " + "[" * 100_000, "mine.toml is nested too deeply"),
        ("a = " + "9" * 5000, "mine.toml has a number that is too long"),
        ("#" * (2**20 + 1), "mine.toml has more than 1.00 MiB"),
        ("name = 'a", "mine.toml, at its end: not TOML|mine.toml, line 1: not TOML"),
    ],
)
def test_files_that_are_no_table_of_devices(file, text, said):
    with pytest.raises(UsageError, match=said):
        devices.read(file(text))


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"nothing\.toml is no file"):
        devices.read("nothing.toml")
    with pytest.raises(UsageError, match="is a folder"):
        devices.read(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"# fine\n\xff\n")
    with pytest.raises(UsageError, match=r"bytes.toml, line 2: not UTF-8"):
        devices.read("bytes.toml")


def test_a_mark_of_order_and_windows_line_ends(tmp_path):
    path = tmp_path / "windows.toml"
    path.write_bytes(b"\xef\xbb\xbf" + BOARD.replace("\n", "\r\n").encode() + b'quux = "1"\r\n')
    with pytest.raises(UsageError, match="line 10: 'quux'"):
        devices.read(path)


def test_a_header_within_a_text_is_none(file):
    text = '[[device]]\nname = "a"\nkind = "mcu"\nmemory = "1 MB"\nnote = """\n[[device]]\nkin = 3\n"""\nknd = "mcu"\n'
    with pytest.raises(UsageError, match="line 9: 'knd'"):
        devices.read(file(text))


VALUES = st.sampled_from(['"text"', "3", "[1, 2]", '["[[device]]"]', '"a = 1 # no"', "{a = 1, b = [2]}", "'}'", "true"])


@settings(max_examples=200, deadline=None)
@given(
    rows=st.lists(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), min_size=1, max_size=5),
    blank=st.lists(st.sampled_from(["", "# [[device]]", "# name = 3"]), max_size=3),
    inline=st.booleans(),
)
def test_lines_are_those_of_the_text(rows, blank, inline):
    """Every key is written on a line that is counted while writing, in both forms."""
    lines, where = [*blank], []
    if inline:
        lines.append("devices = [")
        for row in rows:
            lines += blank
            lines.append("{" + ", ".join(f"{key} = {value}" for key, value in row.items()) + "},")
            where.append((len(lines), dict.fromkeys(row, len(lines))))
        lines.append("]")
    else:
        for row in rows:
            lines.append("[[devices]]")
            place, keys = len(lines), {}
            for key, value in row.items():
                lines += [*blank, f'"{key}" = {value}']
                keys[key] = len(lines)
            where.append((place, keys))
    text = "\n".join(lines)
    assert len(tomllib.loads(text)["devices"]) == len(rows)
    found = places(text, ("device", "devices"))
    assert list(zip(found.rows, found.keys, strict=True)) == where


def test_a_key_of_very_many_parts(file):
    """tomllib takes the square of the parts: minutes here."""
    with pytest.raises(UsageError, match="line 2: nested too deeply"):
        devices.read(file("# rows\n[[device" + ".a" * 100_000 + "]]\n"))


def test_dots_in_texts_are_no_keys(file):
    note = "see 1.2.3 and " + "...".join("abcdefgh") + " https://a.b.c.d.e.f/g.h"
    row = f'[[device]]\nname = "b"\nkind = "mcu"\nmemory = "1 MiB"\nnote = "{note}"\n'
    assert devices.read(file(row))[0].note == note
