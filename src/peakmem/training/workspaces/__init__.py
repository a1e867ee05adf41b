"""What a kernel takes inside an operator and gives back before it returns: rows of data, by device and operator.

A tracer sees the storages that operators leave. What a kernel allocates beyond them, a reordered image, a scratchpad,
partial sums, no dispatch-level tracer sees; it is looked up here. Each row has its formula, the version it is read
from, and whether it was measured.
"""

from peakmem.training.workspaces.cuda.kept import persistent, taken
from peakmem.training.workspaces.found import AMPERE, Found, Kept, Machine, Row
from peakmem.training.workspaces.table import bound_of, find, machine_here, rows

__all__ = [
    "AMPERE", "Found", "Kept", "Machine", "Row", "bound_of", "find", "machine_here", "persistent", "rows", "taken",
]  # fmt: skip
