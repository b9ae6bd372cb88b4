"""Hospitals of the heart disease data in a federation of real processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from scripts.demos.house import House

from aimass.proto.task import locate
from tests.support.datasets import dataset

__all__ = ["heart_plan", "open_hospitals"]


def open_hospitals(
    house: House,
    names: Sequence[str],
    policies: Mapping[str, str] | None = None,
    analyses: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Found the federation; each hospital permits the task, adds its rows and starts its daemon.

    `policies` is what some write at the end of their policy, `analyses` what some release beside statistics.
    """
    rows = dataset("heart")
    house.found(names)
    for name in names:
        house.permit(name, "heart", locate("heart").digest, ["auc"])
        salt = hashlib.sha256(name.encode()).hexdigest()
        house.run(
            "client", "data", "add", "heart", "--dir", name, "--schema", "heart/1", "--uri",
            str(rows / f"{name}.parquet"), "--format", "parquet", "--salt", salt,
        )  # fmt: skip
        path = house.folder / name / "policy.toml"
        if policies and name in policies:
            path.write_text(path.read_text() + policies[name])
        if analyses and name in analyses:
            released = f"analyses = {json.dumps(['statistics', *analyses[name]])}"
            path.write_text(path.read_text().replace('analyses = ["statistics"]', released))
        house.start_partner(name)


def heart_plan(name: str, quorum: int, step_deadline_s: float = 300.0) -> str:
    """Statistics and two short rounds, as a person writes it."""
    return f"""
name = "{name}"
task = "heart"
data_schema = "heart/1"
seed = 3
[train]
batch_size = 32
learning_rate = 0.03
steps = 4
[cohort]
quorum = {quorum}
step_deadline_s = {step_deadline_s}
[[stages]]
driver = "statistics"
[[stages]]
driver = "averaging"
options = {{ rounds = 2 }}
"""
