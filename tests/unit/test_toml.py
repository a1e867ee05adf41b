"""The lines of TOML keys against what tomllib reads from the same text: nothing missed, nothing made up."""

import tomllib

from hypothesis import given, settings
from hypothesis import strategies as st

from peakmem.toml import lines, too_deep

SCALARS = st.sampled_from(["1", '"a, { = ["', "true", "'x # y'", "1.5"])


def _list(parts):
    return f"[{', '.join(parts)}]"


def _table(parts):
    return "{" + ", ".join(f"k{n} = {part}" for n, part in enumerate(parts)) + "}"


VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3).map(_list) | st.lists(inner, max_size=3).map(_table),
    max_leaves=8,
)


def tables(data, path=()):
    """Every key, and every table in a list, by its path."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield (*path, key)
            yield from tables(value, (*path, key))
    elif isinstance(data, list):
        for number, value in enumerate(data):
            if isinstance(value, dict):
                yield (*path, str(number))
            yield from tables(value, (*path, str(number)))


def looked_up(data, path):
    for part in path:
        data = data[int(part)] if isinstance(data, list) else data[part]
    return data


@settings(max_examples=300, deadline=None)
@given(st.lists(VALUES, max_size=3), st.lists(st.tuples(st.sampled_from(["[[L]]", "[[M]]"]), VALUES), max_size=4))
def test_every_key_has_a_line_and_every_line_a_key(top, rows):
    text = "\n".join([f"r{n} = {value} # c [" for n, value in enumerate(top)] + [f"{h}\nq = {v}" for h, v in rows])
    data, found = tomllib.loads(text), lines(text)
    assert set(tables(data)) <= set(found)
    for path in found:
        looked_up(data, path)
    for n in range(len(top)):
        assert found[f"r{n}",] == n + 1


def test_a_key_of_very_many_parts_is_told_before_it_is_read():
    assert too_deep("a = 1\n" + ".".join(["b"] * 40) + " = 1\n") == 2
    assert too_deep("a.b.c = 1\n") == 0
