"""Four nodes in a federation of real processes that run the Flower apps of tests/flower_apps."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from scripts.demos.house import House

from aimass.proto.api import Federation, Run
from aimass.proto.app_plan import AppDraft
from aimass.proto.apps import install, read_app
from aimass.proto.plan import Cohort
from aimass.proto.tensors import Array, Blob
from aimass.proto.values import Scalar
from aimass.proto.views import RunView

__all__ = [
    "APPS",
    "COHORT",
    "NODES",
    "SEED",
    "VALUES",
    "final",
    "left_alone",
    "open_nodes",
    "run_app",
    "said",
    "submit_app",
]

APPS: Final = Path(__file__).parent.parent / "flower_apps"
NODES: Final = ("first", "fourth", "second", "third")
"""By name; `value` is 1 to 4 and `weight` ten times that, in the order of the words."""
VALUES: Final = {"first": 1, "second": 2, "third": 3, "fourth": 4}
SEED: Final = 9
"""One with which Krum takes a third and a third of updates that are all as good."""
COHORT: Final = Cohort(quorum=2, step_deadline_s=60.0)


def open_nodes(house: House, apps: Sequence[str]) -> None:
    """Found the federation: the server has the apps, each node has them, permits them and has a number of its own."""
    found = [read_app(APPS / name) for name in apps]
    house.found(NODES)
    for app in found:
        install(app, house.folder / "server")
    for name in NODES:
        for app in found:
            install(app, house.folder / name)
        house.run(
            "client", "data", "add", "numbers", "--dir", name, "--schema", "numbers/1", "--format", "files",
            "--node-config", f"value={VALUES[name]} weight={10 * VALUES[name]}",
        )  # fmt: skip
        path = house.folder / name / "policy.toml"
        admitted = "".join(f'[[tasks]]\nname = "{a.name}"\ndigest = "{a.digest}"\nkind = "app"\n' for a in found)
        text = path.read_text().replace("\nplain_sums = false", "\nplain_sums = true") + admitted
        path.write_text(text)
        house.start_partner(name)


def submit_app(federation: Federation, app: str, draft: AppDraft | None = None, **config: Scalar) -> Run:
    """Start a run; `num_server_rounds` stands for `num-server-rounds`."""
    said = AppDraft(data_schema="numbers/1", seed=SEED, cohort=COHORT) if draft is None else draft
    return federation.submit_app(APPS / app, said, {key.replace("_", "-"): value for key, value in config.items()})


def run_app(house: House, app: str, draft: AppDraft | None = None, **config: Scalar) -> RunView:
    """Start a run and wait for its end."""
    with Federation.open(house.folder / "scientist") as federation:
        return submit_app(federation, app, draft, **config).wait()


def final(house: House, view: RunView) -> dict[str, Array]:
    """The arrays of a finished run's model."""
    assert view.summary.state == "finished", f"{view.summary.reason}\n{log_of(house, view)}"
    path = house.folder / f"{view.summary.model}.safetensors"
    with Federation.open(house.folder / "scientist") as federation:
        federation.export(view.summary.model, path)
    return {name: np.array(array) for name, array in Blob(path.read_bytes()).arrays().items()}


def log_of(house: House, view: RunView) -> str:
    """What the ServerApp of a run printed."""
    return (house.folder / "server" / "data" / "flower" / view.summary.run_id / "app.log").read_text()


def said(house: House, view: RunView) -> list[Any]:
    """What the ServerApp of a run shows, each as it printed it."""
    return [json.loads(line.partition("SHOW ")[2]) for line in log_of(house, view).splitlines() if "SHOW " in line]


def left_alone(pid: int) -> None:
    """Wait until a process has none below it: what it started for its runs has ended with them."""
    end = time.monotonic() + 20.0
    while below := _below(pid):
        assert time.monotonic() < end, below
        time.sleep(0.05)


def _below(pid: int) -> list[int]:
    """Processes below one, at any depth; one that ends meanwhile has none."""
    try:
        children = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []
    return children + [each for child in children for each in _below(child)]
