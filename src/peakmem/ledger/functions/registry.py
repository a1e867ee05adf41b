"""The functions that expressions call: by name, with usage and meaning; what is given them is checked here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from time import monotonic

from peakmem.errors import UsageError
from peakmem.ledger.context import KEYS, Context, changed, unknown_key
from peakmem.ledger.expression import unknown_function
from peakmem.ledger.figures import Figures
from peakmem.ledger.value import Item, Value, said

LONGEST_SECONDS = 300
# for one expression; looked at before each function


@dataclass(slots=True)
class Scope:
    """Where a function runs: the context it counts under, and all that was computed before."""

    figures: Figures
    context: Context
    forced: tuple[tuple[str, object], ...] = ()
    # settings that no keyword overrides: those that a search tries
    swapped: tuple[tuple[str, str], ...] = ()
    # functions that stand for others in a search
    seen: dict[Context, str] = field(default_factory=dict)
    # contexts that were counted under, and the first function that did
    until: float = field(default_factory=lambda: monotonic() + LONGEST_SECONDS)
    # when a claim has taken too long

    def under(self, keywords: Mapping[str, Item], function: str) -> Scope:
        """The same with other settings."""
        context = changed(self.context, keywords) if keywords else self.context
        if self.forced:
            context = changed(context, dict(self.forced))
        self.seen.setdefault(context, function)
        return Scope(self.figures, context, self.forced, self.swapped, self.seen, self.until)


@dataclass(frozen=True, slots=True)
class Function:
    """One function."""

    name: str
    usage: str
    what: str
    group: str
    compute: Callable[..., Item]
    scoped: bool
    # whether it counts under a context, so that settings may be given it


FUNCTIONS: dict[str, Function] = {}


def function(
    usage: str, what: str, group: str, *, scoped: bool = True, name: str = ""
) -> Callable[[Callable[..., Item]], Callable[..., Item]]:  # fmt: skip
    """Register the function below; its first argument is the Scope."""

    def register(compute: Callable[..., Item]) -> Callable[..., Item]:
        called = name or usage.partition("(")[0]
        FUNCTIONS[called] = Function(called, usage, what, group, compute, scoped)
        return compute

    return register


def call(scope: Scope, name: str, given: Sequence[Item], keywords: Mapping[str, Item]) -> Item:
    """Run a function of the registry under a scope; what was computed before is not computed again.

    Raises:
        UsageError: no such function, or arguments that it does not take.
        PeakmemError: what it raises.
    """
    if monotonic() > scope.until:
        raise UsageError(
            f"the claim takes longer than {LONGEST_SECONDS} s", expected="a smaller network, or less of it"
        )
    name, _, instead = dict(scope.swapped).get(name, name).partition(":")
    one = FUNCTIONS.get(name)
    if one is None:
        raise unknown_function(name, tuple(FUNCTIONS))
    signature = _signature(one)
    own = {key: value for key, value in keywords.items() if key in signature.parameters}
    settings = {key: value for key, value in keywords.items() if key not in own}
    if settings and not one.scoped:
        raise _unknown_argument(one, next(iter(settings)), signature)
    for key in settings:
        if key not in KEYS:
            raise _unknown_argument(one, key, signature)
    try:
        binding = signature.bind_partial if instead else signature.bind
        arguments = binding(scope, *given, **own).arguments
    except TypeError as fault:
        raise UsageError(f"{name}: {fault}", expected=one.usage) from None
    del arguments["scope" if "scope" in arguments else "_"]
    if instead:
        arguments[next(key for key in signature.parameters if key != "scope")] = instead
    inner = scope.under(settings, name) if one.scoped else scope
    known = (name, inner.context if one.scoped else None, tuple(arguments.items()))
    if known not in scope.figures.items:
        with _told(name):
            scope.figures.items[known] = one.compute(inner, **arguments)
    return scope.figures.items[known]


def _signature(one: Function) -> inspect.Signature:
    return inspect.signature(one.compute)


def _unknown_argument(one: Function, key: str, signature: inspect.Signature) -> UsageError:
    own = [name for name in signature.parameters if name not in ("scope", "_")]
    known = (*own, *(KEYS if one.scoped else ()))
    near = get_close_matches(key, known, n=1, cutoff=0.5)
    if not known:
        return UsageError(f"{one.name} takes no {key!r}", expected=one.usage)
    if key not in KEYS and not one.scoped:
        return UsageError(f"{one.name} takes no {key!r}", expected=one.usage, hint=near[0] if near else "")
    if not own:
        return unknown_key(key)
    return UsageError(
        f"{one.name} takes no {key!r}", expected=f"{one.usage}, or a setting of the context",
        hint=near[0] if near else "",
    )  # fmt: skip


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Numbers that Python cannot hold become an error like others."""
    try:
        yield
    except (OverflowError, RecursionError, MemoryError) as fault:
        raise UsageError(f"{name}: {type(fault).__name__}, the sizes are beyond what is counted") from None


# -- arguments ---------------------------------------------------------------------------


def text(item: Item, name: str, choices: Sequence[str] = ()) -> str:
    """A text, one of `choices` where there are any.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(item, str):
        raise UsageError(f"{name} is {said(item)[:60]!r}", expected='a text in quotes, such as "conv1"')
    if choices and item not in choices:
        near = get_close_matches(item, choices, n=1, cutoff=0.5)
        raise UsageError(
            f"{name} is {item[:60]!r}", expected=f"one of {', '.join(choices)}", hint=near[0] if near else ""
        )
    return item


def value(item: Item, name: str) -> Value:
    """A number.

    Raises:
        UsageError: it is none.
    """
    if not isinstance(item, Value):
        raise UsageError(f"{name} is {said(item)[:60]!r}", expected="a number")
    return item
