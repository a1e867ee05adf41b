"""The zoo: reference networks from their papers, held to the published parameter counts.

    name, options = parse_spec("mobilenet_v1:width=0.5,classes=10")
    graph = build(name, batch=4, **options)

Importing this imports no network; `build` fetches the one it needs. No tensor has contents here;
`peakmem.zoo.export` gives them random ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module

from peakmem.errors import ShapeError, UsageError
from peakmem.ir.dims import Dim, Symbol
from peakmem.ir.graph import Graph
from peakmem.zoo.registry import NETWORKS, Network, Option, Value

LARGEST_BATCH = 2**24


def parse_spec(text: str) -> tuple[str, dict[str, Value]]:
    """`name` or `name:option=value,option=value`, checked against the registry.

    Raises:
        UsageError: no such network or option, or a value it cannot take.
    """
    name, colon, rest = text.strip().partition(":")
    network = _network(name.strip())
    options: dict[str, Value] = {}
    for part in rest.split(",") if colon else ():
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not value:
            raise UsageError(
                f"{part.strip()!r} in {text!r} is not a choice",
                expected="option=value",
                hint=f"{network.name}:{network.options[0].name}={network.options[0].default}",
            )
        option = _option(network, key)
        if key in options:
            raise UsageError(f"option {key!r} is given twice in {text!r}")
        options[key] = _checked(network, option, _parsed(network, option, value))
    return network.name, options


def is_named(text: str) -> bool:
    """Whether `text` starts with the name of a network here."""
    return text.partition(":")[0].strip() in NETWORKS


def build(name: str, *, batch: Dim = 1, **options: Value) -> Graph:
    """The network called `name`; `batch` may be a Symbol, to be bound later.

    Raises:
        UsageError: no such network or option, or values that do not go together.
    """
    network = _network(name)
    if isinstance(batch, bool) or not (isinstance(batch, Symbol) or 1 <= batch <= LARGEST_BATCH):
        raise UsageError(f"a batch of {batch} cannot be run", expected=f"1 to {LARGEST_BATCH}", hint="--batch 1")
    given = {key: _checked(network, _option(network, key), value) for key, value in options.items()}
    chosen = {option.name: given.get(option.name, option.default) for option in network.options}
    module, _, attribute = network.builder.partition(":")
    function: Callable[..., Graph] = getattr(import_module(f"{__name__}.{module}"), attribute)
    try:
        graph = function(batch, **chosen)
    except ShapeError as fault:
        raise UsageError(f"{spec(name, given)} cannot be built: {fault.what}", where=fault.where) from fault
    return replace(graph, name=spec(name, given))


def spec(name: str, options: Mapping[str, Value]) -> str:
    """What `parse_spec` reads; options at their defaults are left out."""
    network = _network(name)
    said = [
        f"{option.name}={options[option.name]}"
        for option in network.options
        if options.get(option.name, option.default) != option.default
    ]
    return f"{name}:{','.join(said)}" if said else name


def _network(name: str) -> Network:
    network = NETWORKS.get(name)
    if network is None:
        near = get_close_matches(name.lower().replace("-", "_"), NETWORKS, n=3, cutoff=0.5)
        raise UsageError(
            f"the zoo has no network {name!r}",
            expected=f"one of {', '.join(near or NETWORKS)}",
            hint=near[0] if near else "",
        )
    return network


def _option(network: Network, name: str) -> Option:
    option = network.option(name)
    if option is None:
        defaults = {option.name: option.default for option in network.options}
        near = get_close_matches(name, defaults, n=1, cutoff=0.5)
        raise UsageError(
            f"{network.name} has no option {name!r}",
            expected=f"one of {', '.join(defaults)}",
            hint=f"{network.name}:{near[0]}={defaults[near[0]]}" if near else "",
        )
    return option


def _parsed(network: Network, option: Option, text: str) -> Value:
    try:
        return type(option.default)(text)
    except ValueError:
        raise _refusal(network, option, repr(text)) from None


def _checked(network: Network, option: Option, value: Value) -> Value:
    """`value` in the option's type and range."""
    wanted = type(option.default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (wanted is int and not isinstance(value, int)):
        raise _refusal(network, option, repr(value))
    if not option.low <= value <= option.high or (option.choices and value not in option.choices):
        raise _refusal(network, option, str(value))
    return value if isinstance(value, wanted) else wanted(value)


def _refusal(network: Network, option: Option, text: str) -> UsageError:
    kind = "an integer" if isinstance(option.default, int) else "a number"
    expected = f"{kind} from {option.low} to {option.high}: {option.meaning}"
    if option.choices:
        expected = f"one of {', '.join(map(str, option.choices))}: {option.meaning}"
    return UsageError(
        f"option {option.name!r} of {network.name} cannot be {text}",
        expected=expected,
        hint=f"{network.name}:{option.name}={option.default}",
    )


__all__ = ["NETWORKS", "Network", "Option", "Value", "build", "is_named", "parse_spec", "spec"]
