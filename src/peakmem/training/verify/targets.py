"""What is trained by its name, in the process that predicts and in the one that trains alike."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from peakmem.frontends.live import is_factory
from peakmem.training.scenario import Scenario

if TYPE_CHECKING:
    from peakmem.training.tracing.step import Workload


def workload(target: str, scenario: Scenario, inputs: tuple[str, ...] = ()) -> Workload:
    """A built-in network, a folder with a config.json, or the user's own package.module:name.

    Raises:
        UsageError: nothing is called so, or a file that holds a graph and no code to run.
    """
    if Path(target).exists() or not is_factory(target):
        from peakmem.training import networks

        found: Workload = networks.workload(target, scenario)
        return found
    from peakmem.training.tracing import given

    return given.workload(target, scenario, inputs=inputs or None)
