"""HDF5 files written by hand, as the library writes them by default: superblock 0, symbol tables, headers of version 1.

Only headers are sound; the content of datasets is zeros. Held against h5py in test_hdf5.py.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from typing import Any

UNDEFINED = 0xFFFFFFFFFFFFFFFF
_TYPES = {
    "float32": (0x11, b"\x20\x1f\x00", 4, struct.pack("<HHBBBBI", 0, 32, 23, 8, 0, 23, 127)),
    "float16": (0x11, b"\x20\x0f\x00", 2, struct.pack("<HHBBBBI", 0, 16, 10, 5, 0, 10, 15)),
    "int8": (0x10, b"\x08\x00\x00", 1, struct.pack("<HH", 0, 8)),
    "int64": (0x10, b"\x08\x00\x00", 8, struct.pack("<HH", 0, 64)),
}
LEAF, BRANCHES = 8, 32
# members of a leaf and leaves of a node, by the ranks 4 and 16 that the superblock names
Tree = Mapping[str, Any]
# name -> a Tree (group), (shape, dtype) (dataset), or a text under "@name" (attribute)


def hdf5(tree: Tree) -> bytes:
    """A file with the groups, datasets and attributes of `tree`."""
    body = bytearray(96)
    root = _group(body, tree)
    head = b"\x89HDF\r\n\x1a\n" + bytes((0, 0, 0, 0, 0, 8, 8, 0)) + struct.pack("<HHI", 4, 16, 0)
    head += struct.pack("<QQQQ", 0, UNDEFINED, len(body), UNDEFINED)
    head += struct.pack("<QQII16x", 0, root, 0, 0)
    body[:96] = head
    return bytes(body)


def _place(body: bytearray, data: bytes) -> int:
    body += bytes(-len(body) % 8)
    at = len(body)
    body += data
    return at


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 8)


def _header(body: bytearray, messages: list[tuple[int, bytes]]) -> int:
    packed = b"".join(struct.pack("<HHB3x", kind, len(_padded(data)), 0) + _padded(data) for kind, data in messages)
    return _place(body, struct.pack("<BBHIII", 1, 0, len(messages), 1, len(packed), 0) + packed)


def _type(dtype: str) -> bytes:
    form, bits, nbytes, rest = _TYPES[dtype]
    return bytes((form,)) + bits + struct.pack("<I", nbytes) + rest


def _space(shape: tuple[int, ...]) -> bytes:
    return struct.pack("<BBB5x", 1, len(shape), 0) + b"".join(struct.pack("<Q", size) for size in shape)


def _attribute(body: bytearray, name: str, text: str) -> bytes:
    """A string of variable length in a global heap of its own, as h5py writes texts."""
    data = text.encode()
    used = 16 + 16 + len(_padded(data))
    size = max(4096, used + 16)
    heap = b"GCOL" + struct.pack("<B3xQ", 1, size) + struct.pack("<HH4xQ", 1, 0, len(data)) + _padded(data)
    heap += struct.pack("<HH4xQ", 0, 0, size - used)
    at = _place(body, heap.ljust(size, b"\0"))
    # A variable string of bytes in UTF-8.
    kind = (
        bytes((0x19, 0x01, 0x01, 0x00)) + struct.pack("<I", 16) + bytes((0x10, 0, 0, 0)) + struct.pack("<IHH", 1, 0, 8)
    )
    space = _space(())
    title = name.encode() + b"\0"
    head = struct.pack("<BBHHH", 1, 0, len(title), len(kind), len(space))
    return head + _padded(title) + _padded(kind) + _padded(space) + struct.pack("<IQI", len(data), at, 1)


def _group(body: bytearray, tree: Tree) -> int:
    children: list[tuple[str, int]] = []
    attributes = []
    for name, value in tree.items():
        if name.startswith("@"):
            attributes.append((0x0C, _attribute(body, name[1:], value)))
        elif isinstance(value, Mapping):
            children.append((name, _group(body, value)))
        else:
            children.append((name, _dataset(body, *value)))
    children.sort()
    names = bytearray(8)
    places = []
    for name, target in children:
        places.append((len(names), target))
        names += _padded(name.encode() + b"\0")
    data_at = _place(body, bytes(names))
    heap = _place(body, b"HEAP" + struct.pack("<B3xQQQ", 0, len(names), 1, data_at))
    branches = struct.pack("<Q", 0)
    leaves = [places[at : at + LEAF] for at in range(0, len(places), LEAF)]
    for leaf in leaves:
        entries = b"".join(struct.pack("<QQII16x", at, target, 0, 0) for at, target in leaf)
        node = b"SNOD" + struct.pack("<BBH", 1, 0, len(leaf)) + entries
        branches += struct.pack("<QQ", _place(body, node.ljust(8 + 40 * LEAF, b"\0")), leaf[-1][0])
    node = b"TREE" + struct.pack("<BBHQQ", 0, 0, len(leaves), UNDEFINED, UNDEFINED) + branches
    tree_at = _place(body, node.ljust(24 + 8 + 16 * BRANCHES, b"\0"))
    return _header(body, [(0x11, struct.pack("<QQ", tree_at, heap)), *attributes])


def _dataset(body: bytearray, shape: tuple[int, ...], dtype: str) -> int:
    nbytes = _TYPES[dtype][2]
    for size in shape:
        nbytes *= size
    at = _place(body, bytes(nbytes)) if nbytes else UNDEFINED
    layout = struct.pack("<BBQQ", 3, 1, at, nbytes)
    return _header(body, [(0x01, _space(shape)), (0x03, _type(dtype)), (0x08, layout)])
