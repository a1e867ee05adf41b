"""Devices by name: how much memory they have and what of it a process gets; data with its sources, nothing estimated.

The rows stand in `tables/`; a user's own in files of the same form. A field that no source tells is None, never a
guess.
"""

from peakmem.devices.device import KINDS, Device, Kind
from peakmem.devices.reading import read
from peakmem.devices.table import find, largest_context, least_left, listed, using

__all__ = ["KINDS", "Device", "Kind", "find", "largest_context", "least_left", "listed", "read", "using"]
