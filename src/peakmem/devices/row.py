"""One table of a file as a Device: every key checked, contradictions found, what is wrong told with its line."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from difflib import get_close_matches
from fractions import Fraction
from typing import Any, cast

from peakmem.devices.device import ALIGNMENTS, IN_PLACE, KINDS, OVERRIDES, Device, Kind
from peakmem.devices.lines import Places
from peakmem.errors import PeakmemError, UsageError
from peakmem.units import format_bytes, parse_size, readings

LARGEST_SIZE = 1 << 60
SIZES = ("memory", "memory_exact", "storage", "storage_exact", "usable", "nvidia_smi", "context", "contiguous")
TEXTS = (
    "name", "title", "kind", "like", "source", "memory_source", "storage_source", "usable_source", "smi_source",
    "context_source", "weights_source", "alignment_source", "override", "note",
)  # fmt: skip
KEYS = (
    *TEXTS, *SIZES, "aliases", "usable_share", "capability", "multiprocessors", "unified", "weights_in_flash",
    "alignment", "memories",
)  # fmt: skip
# all that a row may say
MEANT = {
    "ram": "memory", "sram": "memory", "vram": "memory", "dram": "memory", "memory_bytes": "memory",
    "flash": "storage", "disk": "storage", "rom": "storage", "storage_bytes": "storage", "type": "kind",
    "url": "source", "capacity": "usable", "share": "usable_share", "banks": "memories", "base": "like",
    "extends": "like", "description": "title", "comment": "note",
}  # fmt: skip
# what others call the keys
_UNIT = re.compile(r"^\s*([0-9][0-9,_.]*)\s*([A-Za-z]+)\s*$")
_PRINTED = {"kbytes": "kB", "kbyte": "kB", "mbytes": "MB", "mbyte": "MB", "gbytes": "GB", "gbyte": "GB"}
# as makers spell units


def unknown_key(key: str, valid: Sequence[str], where: str, place: str) -> None:
    """Refuse a key, with the nearest valid one."""
    meant = MEANT.get(key.lower(), "")
    near = [meant] if meant in valid else get_close_matches(key.lower(), valid, n=1, cutoff=0.5)
    raise UsageError(
        f"{key[:80]!r} is no key {place}", where=where,
        expected=f"{near[0]!r}?" if near else f"one of {', '.join(valid)}", hint=f"{near[0]} = …" if near else "",
    )  # fmt: skip


def said(value: object) -> str:
    """What kind of TOML value it is."""
    names = {bool: "true or false", str: "a text", int: "a number", Decimal: "a number", list: "a list",
             dict: "a table"}  # fmt: skip
    return names.get(type(value), "something else")


class Row:
    """One table of a file on its way to a Device."""

    def __init__(self, row: Mapping[str, Any], where: str, found: Places, index: int, known: Sequence[Device]) -> None:
        self.row, self.where, self.found, self.index, self.known = row, where, found, index, known

    def at(self, key: str = "") -> str:
        """File and line of a key, or of the row."""
        return f"{self.where}, line {self.found.of(self.index, key)}"

    def device(self) -> Device:
        """The row as a Device, made of the one it is like where it says so."""
        for key in self.row:
            if key not in KEYS:
                unknown_key(key, KEYS, self.at(key), "of a device")
        name = self.text("name")
        if not re.fullmatch(r"[a-z0-9][a-z0-9._+-]*", name or ""):
            fault = f"a name {name[:80]!r}" if name else "a device without a name"
            raise UsageError(
                fault, where=self.at("name"), expected="small letters, digits and -", hint='name = "my-board"'
            )
        base = self.base(self.text("like"))
        made = self.filled(base, name)
        self.check(made)
        return made

    def base(self, like: str) -> Device | None:
        """The row that is meant by `like`."""
        if not like:
            return None
        names = {known: one for one in self.known for known in (one.name, *one.aliases)}
        if like not in names:
            near = get_close_matches(like, names, n=1, cutoff=0.5)
            raise UsageError(
                f"no device is called {like[:80]!r}", where=self.at("like"), expected="the name of a device",
                hint=f'like = "{near[0]}"' if near else "peakmem devices",
            )  # fmt: skip
        return names[like]

    def filled(self, base: Device | None, name: str) -> Device:
        """What the row says over what `base` says."""
        row = self.row
        kind = cast(Kind, self.text("kind") or (base.kind if base else ""))
        if kind not in KINDS:
            near = get_close_matches(kind, KINDS, n=1, cutoff=0.4)
            fault = f"no kind of device is called {kind[:80]!r}" if kind else f"device {name!r} has no kind"
            raise UsageError(
                fault, where=self.at("kind"), expected=f"one of {', '.join(KINDS)}",
                hint=f'kind = "{near[0] if near else "mcu"}"',
            )  # fmt: skip
        values: dict[str, Any] = {"name": name, "kind": kind, "title": self.text("title") or name}
        values["aliases"] = self.texts("aliases")
        for key, target in (("memory", "memory"), ("storage", "storage")):
            if key in row or f"{key}_exact" in row:
                printed, nbytes = self.printed(key)
                values |= {target: printed, f"{target}_bytes": nbytes}
                values |= {f"{target}_source": ""} if base else {}
        sizes = {"usable": "usable_bytes", "nvidia_smi": "total_bytes", "context": "context_bytes",
                 "contiguous": "contiguous_bytes"}  # fmt: skip
        values |= {target: self.size(key) for key, target in sizes.items() if key in row}
        sources = {
            key: {"smi_source": "total_source"}.get(key, key) for key in TEXTS if key.endswith("source") and key in row
        }
        values |= {target: self.text(key) for key, target in sources.items()}
        values |= {key: self.text(key) for key in ("override", "note") if key in row}
        values |= {key: self.flag(key) for key in ("unified", "weights_in_flash") if key in row}
        values |= {key: self.count(key) for key in ("multiprocessors", "alignment") if key in row}
        if "alignment" in row and values["alignment"] & (values["alignment"] - 1):
            raise UsageError(f"an alignment of {row['alignment']} B", where=self.at("alignment"),
                             expected="a power of two", hint="alignment = 16")  # fmt: skip
        if "usable_share" in row:
            values["usable_share"] = self.share("usable_share")
        if "capability" in row:
            values["capability"] = self.capability()
        if "memories" in row:
            values["memories"], longest = self.banks()
            values.setdefault("contiguous_bytes", longest)
        if base is not None:
            if "usable" in row or "usable_share" in row:
                values = {"usable_bytes": None, "usable_share": None, "usable_source": "", **values}
            if "memory_bytes" in values and values["memory_bytes"] != base.memory_bytes:
                # figures that were told of the other size
                for key in ("usable_bytes", "total_bytes", "contiguous_bytes"):
                    values.setdefault(key, None)
                values.setdefault("memories", ())
            values = {"origin": "", "source": f"like {base.name}: {base.source}", **values}
            return replace(base, **values)
        values.setdefault("source", "")
        values.setdefault("memory", "")
        values.setdefault("memory_bytes", None)
        values.setdefault("weights_in_flash", kind == "mcu")
        if values["weights_in_flash"]:
            values.setdefault("weights_source", IN_PLACE)
        if "alignment" not in values:
            values |= {"alignment": ALIGNMENTS[kind][0], "alignment_source": ALIGNMENTS[kind][1]}
        values.setdefault("override", OVERRIDES[kind])
        return Device(**values)

    def check(self, made: Device) -> None:
        """Contradictions within the row."""
        if made.memory_bytes is None and made.storage_bytes is None:
            raise UsageError(
                f"device {made.name!r} has neither memory nor storage", where=self.at(), expected="one of them",
                hint='memory = "512 KiB"',
            )  # fmt: skip
        if made.memory_bytes is None and made.kind != "limit":
            raise UsageError(
                f"device {made.name!r} has no memory", where=self.at(), expected='memory, or kind = "limit"',
                hint='memory = "512 KiB"',
            )  # fmt: skip
        if "usable" in self.row and "usable_share" in self.row:
            raise UsageError(
                f"device {made.name!r} says usable and usable_share", where=self.at("usable_share"),
                expected="one of them",
            )  # fmt: skip
        room = _most(made.memory) if made.memory_bytes is not None else None
        room = max(room or 0, made.memory_bytes or 0)
        told = (
            ("usable", made.usable_bytes), ("nvidia_smi", made.total_bytes), ("context", made.context_bytes),
            ("memories", sum(size for _, size in made.memories)), ("contiguous", made.contiguous_bytes),
        )  # fmt: skip
        for key, nbytes in told:
            if nbytes and nbytes > room:
                raise UsageError(
                    f"{key} of {format_bytes(nbytes)} is more than the memory of device {made.name!r}, "
                    f"{made.memory or 'none'}", where=self.at(key if key in self.row else "memory"),
                    expected=f"at most {format_bytes(room)}",
                )  # fmt: skip
        if made.weights_in_flash and made.storage_bytes is None and "weights_in_flash" in self.row:
            raise UsageError(
                f"device {made.name!r} has weights in flash and no storage", where=self.at("weights_in_flash"),
                expected="storage, the flash that they are in", hint='storage = "1 MiB"',
            )  # fmt: skip

    def text(self, key: str) -> str:
        """A text, or "" where there is none."""
        value = self.row.get(key, "")
        if not isinstance(value, str) or (key in self.row and not value.strip()):
            raise UsageError(f"{key} is {said(value) if value != '' else 'empty'}", where=self.at(key),
                             expected="a text in quotation marks")  # fmt: skip
        return value.strip()

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of texts."""
        value = self.row.get(key, [])
        if not isinstance(value, list) or not all(isinstance(one, str) and one.strip() for one in value):
            raise UsageError(f"{key} is not a list of texts", where=self.at(key), hint=f'{key} = ["name"]')
        return tuple(value)

    def flag(self, key: str) -> bool:
        """True or false."""
        value = self.row[key]
        if not isinstance(value, bool):
            raise UsageError(f"{key} is {said(value)}", where=self.at(key), expected="true or false")
        return value

    def count(self, key: str) -> int:
        """A whole number above 0."""
        value = self.row[key]
        if isinstance(value, bool) or not isinstance(value, int) or not 0 < value <= LARGEST_SIZE:
            raise UsageError(f"{key} is {value if isinstance(value, int) else said(value)}", where=self.at(key),
                             expected="a whole number above 0")  # fmt: skip
        return value

    def share(self, key: str) -> Fraction:
        """A share above 0 and at most 1."""
        value = self.row[key]
        number = value if isinstance(value, (int, Decimal)) and not isinstance(value, bool) else None
        if number is None or not Decimal(number).is_finite() or not 0 < number <= 1:
            raise UsageError(f"{key} is {number if number is not None else said(value)}", where=self.at(key),
                             expected="a share above 0 and at most 1", hint=f"{key} = 0.75")  # fmt: skip
        return Fraction(number)

    def capability(self) -> tuple[int, int]:
        """`"8.0"` → (8, 0)."""
        match = re.fullmatch(r"(\d{1,3})\.(\d{1,3})", self.text("capability"))
        if match is None:
            raise UsageError(f"capability {self.row['capability']!r}", where=self.at("capability"),
                             expected="two numbers", hint='capability = "8.0"')  # fmt: skip
        return int(match[1]), int(match[2])

    def size(self, key: str) -> int:
        """A size above 0."""
        return self.bytes_of(key, self.row[key])

    def bytes_of(self, key: str, value: object) -> int:
        """Bytes of a text with a unit, or of a number."""
        if isinstance(value, bool) or not isinstance(value, (str, int)):
            what = "a number without a unit" if isinstance(value, Decimal) else said(value)
            raise UsageError(f"{key} is {what}", where=self.at(key), expected="a size", hint=f'{key} = "512 KiB"')
        text = str(value)
        if text.strip().startswith("-"):
            raise UsageError(f"{key} is negative, {text[:80]}", where=self.at(key), expected="a size above 0")
        try:
            nbytes = value if isinstance(value, int) else parse_size(_spelled(text))
        except (PeakmemError, OverflowError, ValueError):
            raise UsageError(
                f"{key} {text[:80]!r} is not a size", where=self.at(key),
                expected="a number and a unit: B, kB, KiB, MB, MiB, GB, GiB", hint=f'{key} = "512 KiB"',
            ) from None  # fmt: skip
        if not 0 < nbytes <= LARGEST_SIZE:
            raise UsageError(f"{key} is {text[:80]}", where=self.at(key),
                             expected=f"a size above 0, up to {format_bytes(LARGEST_SIZE)}")  # fmt: skip
        return nbytes

    def printed(self, key: str) -> tuple[str, int]:
        """A size as its maker prints it, and its bytes: those of KEY_exact where it is given."""
        exact = f"{key}_exact"
        given = self.row.get(key, self.row.get(exact))
        text = f"{given:,} B" if isinstance(given, int) and not isinstance(given, bool) else str(given).strip()
        nbytes = self.bytes_of(key if key in self.row else exact, given)
        if exact not in self.row or key not in self.row:
            return text, nbytes
        found = self.size(exact)
        if not nbytes <= found <= max(_most(text), nbytes):
            raise UsageError(
                f"{exact} of {found:,} B is not what {text!r} may mean", where=self.at(exact),
                expected=f"{nbytes:,} to {max(_most(text), nbytes):,} B",
            )  # fmt: skip
        return text, found

    def banks(self) -> tuple[tuple[tuple[str, int], ...], int | None]:
        """The banks of RAM, and the longest run of addresses where all of them have one."""
        value = self.row["memories"]
        if not isinstance(value, list) or not all(isinstance(one, (dict, str)) for one in value):
            raise UsageError("memories is not a list of texts", where=self.at("memories"),
                             hint='memories = ["DTCM 64 KiB at 0x20000000"]')  # fmt: skip
        out: list[tuple[str, int]] = []
        runs: list[tuple[int, int]] = []
        for one in value:
            match = re.fullmatch(r"(.*\S)\s+([0-9][0-9,.]*\s*[A-Za-z]+)(?:\s+at\s+(0x[0-9a-fA-F]{1,16}))?", str(one))
            if match is None:
                raise UsageError(f"a memory {str(one)[:80]!r} is not understood", where=self.at("memories"),
                                 expected="NAME SIZE [at ADDRESS]", hint='"DTCM 64 KiB at 0x20000000"')  # fmt: skip
            out.append((match[1], self.bytes_of("memories", match[2])))
            if match[3]:
                runs.append((int(match[3], 16), out[-1][1]))
        return tuple(out), _longest(sorted(runs)) if len(runs) == len(out) and out else None


def _longest(runs: Sequence[tuple[int, int]]) -> int:
    """The longest run of (start, bytes), in the order of their starts."""
    longest = length = 0
    end = None
    for start, nbytes in runs:
        length = length + nbytes if start == end else nbytes
        end, longest = start + nbytes, max(longest, length)
    return longest


def _spelled(text: str) -> str:
    """`320 Kbytes` → `320 kB`."""
    match = _UNIT.match(text)
    return f"{match[1]} {_PRINTED.get(match[2].lower(), match[2])}" if match else text


def _most(text: str) -> int:
    """The most bytes that a printed size may mean: GB read as GiB."""
    match = _UNIT.match(_spelled(text))
    if match is None:
        return 0
    number = Fraction(match[1].replace(",", "").replace("_", ""))
    units = readings(match[2].replace("i", ""))
    binary = {1000: 1024, 10**6: 1 << 20, 10**9: 1 << 30}
    return max((int(number * max(factor, binary.get(factor, factor))) for _, factor in units), default=0)
