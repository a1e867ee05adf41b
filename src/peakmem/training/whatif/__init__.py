"""What another choice would give: its bytes and its price, alone and combined."""

from peakmem.training.whatif.names import CHOICES, Choice, parse
from peakmem.training.whatif.rows import Change, Price, rows
from peakmem.training.whatif.written import Written, is_written, traceable, written

__all__ = [
    "CHOICES", "Change", "Choice", "Price", "Written", "is_written", "parse", "rows", "traceable", "written",
]  # fmt: skip
