"""What another choice would give: its bytes and its price, alone and combined."""

from peakmem.training.whatif.names import CHOICES, Choice, parse
from peakmem.training.whatif.rows import Change, Price, rows

__all__ = ["CHOICES", "Change", "Choice", "Price", "parse", "rows"]
