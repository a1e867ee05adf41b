"""The fields of a configuration, each read with its type, its bounds and the library's own default.

A field that is missing where the library has no default, or that no network can have, is refused
with its name; defaults that were used are remembered, to be told.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from peakmem.errors import FormatError
from peakmem.frontends.names import shown_value

MOST_LAYERS = 256
MOST_EXPERTS = 1024
MOST_EXPERTS_IN_ALL = 1 << 15
# of all layers together
LARGEST = 1 << 26
# of a width, a head count or a vocabulary
LONGEST = 1 << 31
# of a context


class Config:
    """One configuration, or a part of one such as its text_config."""

    def __init__(self, fields: Mapping[str, Any], where: str, name: str = "config.json") -> None:
        self.fields = fields
        self.where = where
        self.name = name
        self.assumed: dict[str, object] = {}
        # fields that were missing, with the default used

    def fault(self, what: str, *, expected: str = "", hint: str = "") -> FormatError:
        """A FormatError about this configuration."""
        return FormatError(what, where=self.where, expected=expected, hint=hint)

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self.fields.get(name) is not None

    def _first(self, names: Sequence[str]) -> tuple[str, Any]:
        for name in names:
            if self.fields.get(name) is not None:
                return name, self.fields[name]
        return names[0], None

    def _missing(self, name: str, default: Any) -> Any:
        if default is None:
            raise self.fault(f"{self.name} has no {name!r}", expected="a configuration of the Hugging Face hub")
        self.assumed[name] = default
        return default

    def size(self, *names: str, default: int | None = None, least: int = 1, most: int = LARGEST) -> int:
        """A whole number, found under the first of `names` that is there."""
        name, value = self._first(names)
        if value is None:
            return int(self._missing(name, default))
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="a whole number")
        if not least <= value <= most:
            raise self.fault(f"{name!r} is {shown_value(value)}", expected=f"{least} to {most}")
        return value

    def optional(self, *names: str, least: int = 1, most: int = LARGEST) -> int | None:
        """A whole number, or None for a field that is null or missing."""
        return self.size(*names, least=least, most=most) if self._first(names)[1] is not None else None

    def layers(self, *names: str, default: int | None = None) -> int:
        """How many layers there are, within reason."""
        return self.size(*names, default=default, most=MOST_LAYERS)

    def flag(self, *names: str, default: bool | None = None) -> bool:
        """True or false."""
        name, value = self._first(names)
        if value is None:
            return bool(self._missing(name, default))
        if not isinstance(value, bool):
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="true or false")
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        """A finite number."""
        name, value = self._first(names)
        if value is None:
            return float(self._missing(name, default))
        if isinstance(value, bool) or not isinstance(value, int | float) or not -1e30 < value < 1e30:
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="a number")
        return float(value)

    def text(self, *names: str, default: str | None = None) -> str:
        """A short text."""
        name, value = self._first(names)
        if value is None:
            return str(self._missing(name, default))
        if not isinstance(value, str) or len(value) > 256:
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="a text")
        return value

    def texts(self, name: str, *, most: int = 1 << 16) -> tuple[str, ...] | None:
        """A list of texts, or None when it is missing."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) > most or not all(isinstance(item, str) for item in value):
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="a list of texts")
        return tuple(value)

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """A list of whole numbers, or None when it is missing."""
        value = self.fields.get(name)
        if value is None:
            return None
        usable = isinstance(value, list) and len(value) <= MOST_LAYERS
        if not usable or not all(isinstance(item, int) and abs(item) <= LONGEST for item in value):
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="a list of whole numbers")
        return tuple(int(item) for item in value)

    def part(self, name: str) -> Config | None:
        """A nested configuration, or None when it is missing."""
        value = self.fields.get(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            raise self.fault(f"{name!r} is {shown_value(value)}", expected="an object")
        return Config(value, self.where, name)

    def labels(self) -> int:
        """How many classes a classifier tells apart; 2 unless the configuration lists them."""
        listed = self.fields.get("id2label")
        if listed is not None:
            if not isinstance(listed, dict) or not listed:
                raise self.fault(f"'id2label' is {shown_value(listed)}", expected="an object with a name per class")
            return len(listed)
        return self.size("num_labels", "_num_labels", default=2)

    def head_size(self, hidden: int, heads: int, *names: str) -> int:
        """Width of one attention head: a field of its own, or hidden / heads without a remainder."""
        given = self.optional(*names) if names else None
        if given is not None:
            return given
        if hidden % heads:
            raise self.fault(f"{hidden} hidden units do not split into {heads} attention heads")
        return hidden // heads

    def shared_heads(self, heads: int, *names: str, default: int | None = None) -> int:
        """Key and value heads, of which each serves as many query heads."""
        shared = self.optional(*names)
        if shared is None:
            shared = heads if default is None else default
        if heads % shared:
            raise self.fault(f"{heads} attention heads do not share {shared} key and value heads evenly")
        return shared

    def only(self, name: str, value: object, default: object) -> None:
        """Refuse a field that has another value than the one that is understood."""
        found = self.fields.get(name, default)
        if found != value and not (found is None and default == value):
            raise self.fault(f"{name!r} is {shown_value(found)}, which is not understood", expected=shown_value(value))
