"""What all readers share: the door, sections of files, names."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peakmem.errors import FormatError, GraphError
from peakmem.frontends.door import door
from peakmem.frontends.names import listed, shown, shown_value, unique
from peakmem.frontends.section import Section


@pytest.mark.parametrize("fault", [RecursionError(), MemoryError(), OverflowError(), struct.error(), KeyError("x")])
def test_damage_leaves_as_an_error_that_names_the_file(tmp_path, fault):
    with pytest.raises(FormatError, match="the file is damaged or hostile") as caught, door(tmp_path, KeyError):
        raise fault
    assert caught.value.where == str(tmp_path)
    assert caught.value.__cause__ is fault


def test_an_error_keeps_a_closer_place_and_gets_the_file_without_one(tmp_path):
    with pytest.raises(GraphError) as caught, door(tmp_path):
        raise GraphError("odd", where="layer 'a'")
    assert str(caught.value) == "layer 'a': odd"
    with pytest.raises(GraphError) as caught, door(tmp_path):
        raise GraphError("odd", expected="even")
    assert str(caught.value) == caught.value.args[0] == f"{tmp_path}: odd (expected even)"


def test_a_file_that_cannot_be_read_and_a_defect_of_the_reader(tmp_path):
    with pytest.raises(FormatError, match=r"cannot be read \(No such file"), door(tmp_path):
        (tmp_path / "none").read_bytes()
    with pytest.raises(ZeroDivisionError), door(tmp_path):
        raise ZeroDivisionError


@given(st.lists(st.sampled_from(["a", "a#1", "a#2", "b", ""]), max_size=40))
def test_unique_names_are_unique_and_the_first_keeps_its_own(names):
    taken: dict[str, int] = {}
    made = [unique(name, taken) for name in names]
    assert len(set(made)) == len(made)
    assert all(new.startswith(name) for name, new in zip(names, made, strict=True))
    assert made[:1] == names[:1]


def test_many_equal_names_take_no_quadratic_time():
    taken: dict[str, int] = {}
    made = [unique("same", taken) for _ in range(20_000)]
    assert (made[:3], made[-1]) == (["same", "same#1", "same#2"], "same#19999")


def test_messages_stay_short_whatever_a_file_says():
    assert len(shown("é" * 10_000)) < 130
    assert shown("a\nb") == r"'a\nb'"
    assert listed([str(number) for number in range(1000)]) == "'0', '1', '2', '3', '4' and 995 more"
    assert [shown_value(value) for value in ([1] * 9999, {}, 10**40, None, True, "relu")] == [
        "a list", "an object", "a number of more than 30 digits", "None", "True", "'relu'",
    ]  # fmt: skip
    assert len(shown_value("x" * 9999)) <= 60


def test_a_section_gives_what_lies_inside_of_it(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with Section(path) as whole:
        assert (whole.size, whole.pread(98, 10), whole.pread(100, 1), whole.pread(-1, 5)) == (100, b"bc", b"", b"")
    with Section(path, 10, 20) as part:
        assert part.pread(0, 3) == bytes((10, 11, 12))
        assert part.pread(15, 50) == bytes(range(25, 30))
    with Section(path, 90, 50) as long:  # a size that the file does not have
        assert long.pread(5, 50) == bytes(range(95, 100))
    with pytest.raises(FormatError, match="cannot be read"):
        Section(tmp_path / "none")
