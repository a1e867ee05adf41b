"""Keras 3 layers: shapes without declared ones, channels last unless told."""

from __future__ import annotations
