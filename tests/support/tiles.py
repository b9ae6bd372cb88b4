"""Tiles of cell nuclei at three owners."""

from __future__ import annotations

__all__ = ["NUCLEI_PLAN"]

NUCLEI_PLAN = """
name = "nuclei"
task = "nuclei"
data_schema = "nuclei/1"
seed = 1
[train]
optimizer = "adam"
learning_rate = 0.003
batch_size = 4
epochs = 2
[evaluate]
every = 4
[cohort]
quorum = 3
[[stages]]
driver = "averaging"
options = { rounds = 4 }
"""
