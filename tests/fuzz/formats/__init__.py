"""Damage that knows a format, one module each: SUFFIX, seeds() and damage(data, rng).

SUFFIX   what a mutant's file name ends in
seeds    small valid files by name, made in code; raises ImportError where a library is missing
damage   one damaged file and what was done to it, the same for the same state of `rng`
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType


def names() -> list[str]:
    """The formats there is a module for."""
    return sorted(module.name for module in iter_modules(__path__))


def module(name: str) -> ModuleType:
    return import_module(f"{__name__}.{name}")
