"""Networks to train, as their reference implementations train them, and the workloads that trace them.

`workload` takes the name of a built-in network (`registry.NETWORKS`), `timm:NAME`, `torchvision:NAME`, or the path of
a Hugging Face configuration. Importing this loads no torch; making a workload does.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.errors import MissingLibrary, UsageError
from peakmem.training.networks.registry import NETWORKS
from peakmem.training.scenario import Scenario

if TYPE_CHECKING:
    from peakmem.training.tracing.step import Workload

__all__ = ["NETWORKS", "known", "workload"]

PACKAGES = ("timm:", "torchvision:")


def known(name: str) -> bool:
    """Whether `workload` is meant for this name; it may refuse it all the same."""
    return name in NETWORKS or name.startswith(PACKAGES) or _configuration(name) is not None


def workload(name: str, scenario: Scenario, **options: object) -> Workload:
    """What is trained under a scenario, by name or path.

    Options go to the builder of a built-in network (`classes=10`); those of language models are `cached` (whether
    keys and values are cached, the configuration's default), `keep_outputs` (whether the loop holds what the forward
    gave until the next one has run) and `padded` (whether some rows are filled up, so that a mask is made).

    Raises:
        UsageError: no network of this name, an option that it does not have.
        MissingLibrary: torch, or the package that has the network, is not installed.
        FormatError: a configuration that cannot be.
    """
    try:
        import torch  # noqa: F401
    except ImportError:
        raise MissingLibrary("PyTorch", extra="torch", purpose="tracing a training step") from None
    if name in NETWORKS:
        from peakmem.training.networks.built_in import BuiltIn

        return BuiltIn(NETWORKS[name], scenario, options)
    if name.startswith(PACKAGES):
        from peakmem.training.networks.packages import packaged

        return packaged(name, scenario, options)
    path = _configuration(name)
    if path is not None:
        from peakmem.training.networks.configured import configured

        return configured(path, scenario, options)
    raise UsageError(
        f"no network to train is called {name!r}",
        expected="a name of `peakmem zoo`, timm:NAME, torchvision:NAME, or a folder with a config.json",
        hint=_near(name),
    )


def _configuration(name: str) -> Path | None:
    path = Path(name)
    if path.is_dir() and (path / "config.json").is_file():
        return path / "config.json"
    return path if path.suffix == ".json" and path.is_file() else None


def _near(name: str) -> str:
    from difflib import get_close_matches

    near = get_close_matches(name, NETWORKS, n=1, cutoff=0.5)
    return f"peakmem train {near[0]}" if near else "peakmem zoo"
