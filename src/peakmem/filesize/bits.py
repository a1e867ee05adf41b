"""Lengths of encoded numbers and fields; nothing is encoded here but what has to be counted."""

from __future__ import annotations


def varint(value: int) -> int:
    """Bytes of a number in protobuf's base 128; negative ones take ten."""
    if value < 0:
        return 10
    length = 1
    while value > 0x7F:
        value >>= 7
        length += 1
    return length


def key(field: int) -> int:
    """Bytes of a field's tag."""
    return varint(field << 3)


def number(field: int, value: int) -> int:
    """Bytes of an integer field."""
    return key(field) + varint(value)


def block(field: int, length: int) -> int:
    """Bytes of a field of `length` bytes: a message, a text, packed numbers."""
    return key(field) + varint(length) + length


def text(field: int, value: str) -> int:
    """Bytes of a text field."""
    return block(field, len(value.encode()))


def padding(size: int, alignment: int) -> int:
    """Bytes from `size` to the next multiple of `alignment`."""
    return -size % alignment
