"""All rows, from the modules that hold them."""

from __future__ import annotations

from tests.attack import (
    rows_inputs,
    rows_noise,
    rows_ring,
    rows_rounds,
    rows_shares,
    rows_start,
    rows_survivors,
    rows_unmasking,
)
from tests.attack.lab import ROWS

__all__ = ["ROWS"]
_MODULES = (rows_start, rows_shares, rows_inputs, rows_survivors, rows_unmasking, rows_rounds, rows_noise, rows_ring)
"""Imported for the scenarios that they enter."""
