"""Zip archives are looked into within bounds."""

from __future__ import annotations

import struct
import zipfile

import pytest

from peakmem.errors import FormatError
from peakmem.frontends.archive import Archive


def packed(path, members, **options):
    with zipfile.ZipFile(path, "w", **options) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def test_members_and_their_content(tmp_path):
    path = packed(tmp_path / "a.zip", {"a/one": b"1234", "two": b""})
    with Archive(path) as archive:
        assert list(archive.members) == ["a/one", "two"]
        assert archive.read("a/one", limit=4) == b"1234"
        assert archive.size("a/one") == 4
        assert "two" in archive
        assert "three" not in archive
        with pytest.raises(FormatError, match="holds no 'three'"):
            archive.read("three", limit=4)


def test_a_member_larger_than_allowed_is_not_read(tmp_path):
    path = packed(tmp_path / "a.zip", {"x": bytes(100)})
    with Archive(path) as archive, pytest.raises(FormatError, match="100 bytes"):
        archive.read("x", limit=99)


def test_a_bomb_that_lies_about_its_size(tmp_path):
    path = packed(tmp_path / "a.zip", {"x": bytes(50_000_000)}, compression=zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    entry = data.rfind(b"PK\x01\x02")
    struct.pack_into("<I", data, entry + 24, 10)
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(FormatError, match=r"damaged|larger"):
        archive.read("x", limit=1000)


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "C:\\x", "..\\up"])
def test_members_outside_of_the_archive(tmp_path, name):
    path = packed(tmp_path / "a.zip", {name: b""})
    with pytest.raises(FormatError, match="outside of itself"):
        Archive(path)


def test_a_name_that_is_there_twice(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x", b"1")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("x", b"2")
    with pytest.raises(FormatError, match="twice"):
        Archive(path)


@pytest.mark.parametrize("cut", [1, 10, 21, 30, 60])
def test_truncated(tmp_path, cut):
    path = packed(tmp_path / "a.zip", {"x": b"1234", "y": b"5678"})
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(FormatError, match="truncated or damaged"):
        Archive(path)


def test_a_directory_said_to_be_huge(tmp_path):
    path = tmp_path / "a.zip"
    with path.open("wb") as file:
        file.truncate(1 << 30)
        file.seek(0, 2)
        file.write(b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 9, 9, 1 << 29, 0, 0))
    with pytest.raises(FormatError, match="a directory of 536,870,912 bytes"):
        Archive(path)


def test_encrypted_members_are_refused(tmp_path):
    path = packed(tmp_path / "a.zip", {"x": b"1234"})
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    path.write_bytes(data)
    with Archive(path) as archive, pytest.raises(FormatError, match="damaged"):
        archive.read("x", limit=10)
