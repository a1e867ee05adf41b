"""What a family makes of a configuration: how to write its network down, and with which heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from peakmem.frontends.hf import decoder
from peakmem.frontends.hf.cache import Cache
from peakmem.frontends.hf.config import Config
from peakmem.frontends.hf.decoder import Decoder, Task
from peakmem.frontends.hf.network import Network

Build = Callable[[Network, Task], tuple[tuple[str, ...], Cache]]
# -> outputs and cache


@dataclass(frozen=True, slots=True)
class Design:
    """A network ready to be written down."""

    build: Build
    longest: int | None
    # tokens it was made for; None for images
    generates: bool = True
    # whether it keeps keys and values from token to token
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Family:
    """A model type: its reader, and the architectures (class names of the library) it comes in."""

    read: Callable[[Config], Design]
    heads: Mapping[str, str]
    # architecture -> head
    usual: str
    # the architecture taken when the configuration names none


def decoder_family(
    prefix: str, read: Callable[[Config], Design], *, lm: str = "", classifies: bool = True, token: str = "score",
    **more: str,
) -> Family:  # fmt: skip
    """A family of decoders; `token` names the layer of its token classifier, "" where it has none."""
    usual = lm or f"{prefix}ForCausalLM"
    heads = {usual: "lm", f"{prefix}Model": "", **more}
    if classifies:
        heads[f"{prefix}ForSequenceClassification"] = "class"
    if token:
        heads[f"{prefix}ForTokenClassification"] = "token" if token == "score" else "token_classifier"
    return Family(read, heads, usual)


def of_decoder(d: Decoder, longest: int | None, *notes: str, generates: bool = True) -> Design:
    """The design of a plain decoder; without a head its names lose the part that the head's class adds."""

    def build(n: Network, task: Task) -> tuple[tuple[str, ...], Cache]:
        bare = d if task.head else replace(d, root=d.root.partition(".")[2])
        return decoder.write(n, bare, task)

    return Design(build, longest, generates, notes)
