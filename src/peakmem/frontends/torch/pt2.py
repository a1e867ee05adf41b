"""PyTorch's .pt2 files to graphs, without torch: the archive's JSON is read, weights are only sized.

Two layouts are known: the archive (models/NAME.json, one member for each weight and a configuration
that names them) and the older one (serialized_exported_program.json).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED

from peakmem.errors import FormatError
from peakmem.frontends.archive import Archive
from peakmem.frontends.bounded_json import parse_json
from peakmem.frontends.door import door
from peakmem.frontends.torch.graph import graph_of
from peakmem.frontends.torch.program import Program, Stored, end_of
from peakmem.frontends.torch.pt2_program import MAJORS, ProgramReader, Sizes
from peakmem.ir.graph import Detail, Graph, Unknown

LARGEST_JSON = 96 << 20
LARGEST_PACKED_JSON = 64 << 20
# bytes; exporters store their JSON unpacked, so that a packed one is bounded more tightly
MOST_PARTS, MOST_PACKED_PARTS, MOST_COMMAS = 2_500_000, 500_000, 4_000_000
# objects and lists in it; a node has 2.3 KB and 55 of them (ResNet-50), so that 40,000 nodes are read
LONGEST_LIST = 5
# names that a sentence lists

_OLD = "serialized_exported_program.json"


def read_pt2(path: Path) -> Graph:
    """The graph of an exported program, with the symbolic dimensions it was exported with.

    Raises:
        FormatError: not such a file, a damaged one, or one of a version that is not known.
        GraphError: the program contradicts itself.
    """
    with door(path, ValueError):
        try:
            with Archive(path) as archive:
                return _Reader(path, archive).graph()
        except (KeyError, TypeError, AttributeError, IndexError) as fault:
            what = (
                f"the program lacks {fault}"
                if isinstance(fault, KeyError)
                else f"the program is not as it should be ({fault})"
            )
            raise FormatError(what, expected="what torch.export.save writes") from fault


class _Reader:
    def __init__(self, path: Path, archive: Archive) -> None:
        self.path = path
        self.archive = archive
        self.notes: list[str] = []
        self.details: list[Detail] = []

    def graph(self) -> Graph:
        member = self._program_member()
        document = self._json(member)
        if not isinstance(document, dict):
            raise FormatError(f"{member} holds no program", expected="a JSON object")
        version = document.get("schema_version")
        major = version.get("major") if isinstance(version, dict) else None
        if major not in MAJORS:
            raise FormatError(
                f"the program is written in version {str(major)[:20]} of its schema",
                expected=f"{MAJORS.start} to {MAJORS.stop - 1}",
                hint="torch.export.load and torch.export.save with a PyTorch of today",
            )
        sizes = Sizes()
        sizes.collect(document["graph_module"]["graph"])
        program = ProgramReader(sizes).program(document)
        program = self._old_weights(program) if member.endswith(_OLD) else self._weights(program, member)
        self._describe(document, sizes, program)
        return graph_of(
            program, name=self.path.stem, form="pt2", source=str(self.path), notes=self.notes, details=self.details,
            unknowns=_mapped(program),
        )  # fmt: skip

    # -- the archive ---------------------------------------------------------------------

    def _program_member(self) -> str:
        members = list(self.archive.members)
        found = [
            name for name in members if f"/{name}".rpartition("/")[0].endswith("/models") and name.endswith(".json")
        ]
        old = [name for name in members if name == _OLD or name.endswith("/" + _OLD)]
        if not found and not old:
            compiled = any(
                "aotinductor" in name and name.endswith((".so", ".o", ".cpp", ".wrapper.so")) for name in members
            )
            if compiled:
                raise FormatError(
                    "the package holds code that AOTInductor compiled and no graph",
                    hint="torch.export.save of the program it was compiled from",
                )
            raise FormatError("the archive holds no exported program", expected="models/NAME.json")
        if len(found) > 1:
            plain = [name for name in found if name.endswith("/model.json") or name == "models/model.json"]
            if len(plain) != 1:
                shown = ", ".join(name.rpartition("/")[2].removesuffix(".json")[:60] for name in found[:LONGEST_LIST])
                raise FormatError(
                    f"the archive holds {len(found)} programs ({shown})", expected="one, or one called model"
                )
            self.notes.append(f"of {len(found)} programs in the archive the one called model was read")
            return plain[0]
        return (found or old)[0]

    def _json(self, member: str) -> Any:
        packed = self.archive.members[member].compress_type != ZIP_STORED
        data = self.archive.read(member, limit=LARGEST_PACKED_JSON if packed else LARGEST_JSON)
        parts = MOST_PACKED_PARTS if packed else MOST_PARTS
        where = f"{self.path}!{member[:200]}"
        return parse_json(data, what="the program", where=where, parts=parts, commas=MOST_COMMAS)

    # -- weights -------------------------------------------------------------------------

    def _weights(self, program: Program, member: str) -> Program:
        """`program` with what the archive's configurations say of sharing; sizes are held against its members."""
        root, _, title = member.rpartition("models/")
        title = title.removesuffix(".json")
        configured: dict[str, tuple[str, Mapping[str, Any]]] = {}
        for folder, kind in (("weights", "weights"), ("constants", "constants")):
            config = f"{root}data/{folder}/{title}_{kind}_config.json"
            if config in self.archive:
                content = self._json(config)["config"]
                configured.update((name, (f"{root}data/{folder}/", entry)) for name, entry in content.items())
            elif f"{root}data/{folder}/{title}.pt" in self.archive:
                self.notes.append(f"the {folder} are one pickle, so that which of them share bytes is not known")
        stored = {}
        missing = []
        for place, item in program.stored.items():
            found = configured.get(item.name)
            if found is None:
                missing.append(item.name)
                stored[place] = item
                continue
            stored[place] = self._checked(program, place, item, *found)
        if missing and configured:
            shown = ", ".join(missing[:LONGEST_LIST])
            self.notes.append(f"{len(missing)} stored tensors are not in the archive and sized by the program: {shown}")
        return replace(program, stored=stored)

    def _checked(self, program: Program, place: str, item: Stored, folder: str, entry: Mapping[str, Any]) -> Stored:
        name = entry["path_name"]
        if not isinstance(name, str) or len(name) > 1024:
            raise FormatError(f"{item.name[:80]!r} is stored as {str(name)[:80]!r}", expected="a member's name")
        member = f"{folder}{name}"
        if member not in self.archive:
            raise FormatError(f"the archive lacks {member[:200]!r}, which holds {item.name[:80]!r}")
        meta = entry.get("tensor_meta")
        if entry.get("use_pickle") or not isinstance(meta, dict):
            return replace(item, payload=member)
        told = ProgramReader(Sizes()).value(meta)
        value = program.values[place]
        if told.sizes != value.sizes or told.dtype != value.dtype:
            raise FormatError(
                f"{item.name[:80]!r} is stored as {'x'.join(map(str, told.sizes))} {told.dtype}",
                expected=f"{'x'.join(map(str, value.sizes))} {value.dtype}, as the program has it",
            )
        offset = Sizes().number(Sizes().dim(meta.get("storage_offset", {"as_int": 0})))
        span = offset + 1 + sum((size - 1) * stride for size, stride in zip(told.sizes, told.strides, strict=True))
        needed = 0 if 0 in told.sizes or told.dtype is None else told.dtype.nbytes(span) or 0
        have = self.archive.size(member)
        if offset < 0:
            raise FormatError(f"{item.name[:80]!r} starts at element {offset}", expected="0 or more")
        if needed > have:
            raise FormatError(f"{member[:200]!r} has {have:,} bytes", expected=f"{needed:,} for {item.name[:80]!r}")
        start = 0 if told.dtype is None else told.dtype.nbytes(offset) or 0
        return replace(item, payload=member, start=start)

    def _old_weights(self, program: Program) -> Program:
        if program.stored:
            self.notes.append("the weights are one pickle, so that which of them share bytes is not known")
        return program

    # -- what the file says besides ------------------------------------------------------

    def _describe(self, document: Mapping[str, Any], sizes: Sizes, program: Program) -> None:
        torch = document.get("torch_version")
        if isinstance(torch, str):
            self.details.append(Detail("exported by", f"PyTorch {torch[:60]}"))
        ranges = document.get("range_constraints")
        for name, limit in list(ranges.items() if isinstance(ranges, dict) else ())[:64]:
            if isinstance(limit, dict):
                low, high = (str(limit.get(key, "")).removesuffix("None") for key in ("min_val", "max_val"))
                self.details.append(Detail(f"dimension {name[:60]}", f"{low[:24] or '0'} to {high[:24] or 'any'}"))
        if sizes.unread:
            shown = "; ".join(list(sizes.unread.values())[:2])
            self.notes.append(f"sizes whose formulas are not understood: {len(sizes.unread)} ({shown})")
        beyond = sum(
            max(0, self.archive.size(payload) - need)
            for payload, need in _needs(program).items()
            if payload in self.archive
        )
        if beyond:
            self.details.append(Detail("stored beyond the tensors", "bytes of weights that no tensor reaches", beyond))


def _mapped(program: Program) -> list[Unknown]:
    """Places where torch.vmap starts; the file keeps sizes inside of it without the axis that is mapped over."""
    reason = "inside of torch.vmap the file has the sizes of one example"
    found = [call for call in program.calls if call.op == "_add_batch_dim"]
    return [Unknown(call.name, f"{call.namespace}:{call.op}", reason) for call in found]


def _needs(program: Program) -> dict[str, int]:
    """How far the tensors reach into each member of the archive."""
    needs: dict[str, int] = {}
    for place, item in program.stored.items():
        if item.payload:
            needs[item.payload] = max(needs.get(item.payload, 0), end_of(item, program.values[place]))
    return needs
