"""Budgets of networks in a file, checked in one go: limits on what each may need, and on how much it may grow.

`config` reads and refuses, `answers` asks the analyses, `baseline` keeps values, `checking` judges. Nothing is printed
here.
"""

from __future__ import annotations
