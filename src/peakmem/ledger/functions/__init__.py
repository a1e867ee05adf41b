"""What expressions may call. Importing this registers all of it and loads no library."""

from peakmem.ledger.functions import arithmetic, decisions, networks, rows, training
from peakmem.ledger.functions.registry import FUNCTIONS, Function, Scope, call

__all__ = ["FUNCTIONS", "Function", "Scope", "arithmetic", "call", "decisions", "networks", "rows", "training"]
