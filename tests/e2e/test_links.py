"""Real processes over a link that fails: rounds end in the bits of an undisturbed run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripts.demos.bulk import bulk_federation, round_seconds
from scripts.demos.house import House

from tests.support.fault_proxy import Fault, FaultProxy, Faults, Kind, Way, proxied

PARTNERS = ("north", "south")
MB = 1_000_000
LINK = '\n[link]\nkeepalive_s = 5.0\nidle_s = 5.0\ndifferences = "never"\n'
"""Models come whole: of this one a difference is next to nothing, which no fault would find on its way."""
TROUBLES = ("Traceback", " ERROR ", "was never", "already running", "contribution refused")


def worst(megabytes: int) -> Faults:
    """Half-open both ways at first, then cut or overtaken within three models' bytes, each seventh refused; never swift."""
    halves = {0: Fault(Kind.HALF_OPEN, Way.UP, megabytes * MB // 2), 1: Fault(Kind.HALF_OPEN, Way.DOWN, 10_000)}
    return Faults(
        seed=5, kinds=(Kind.CUT, Kind.CUT, Kind.OVERTAKEN), at_bytes=(0, 3 * megabytes * MB), given=halves,
        refused=frozenset(range(3, 10_000, 7)), delay_s=0.004,
    )  # fmt: skip


@pytest.fixture(params=[(4, 12), pytest.param((60, 4), marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def federation(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[House, int, int]]:
    """Of a model of so many megabytes, and for so many rounds."""
    megabytes, rounds = request.param
    with bulk_federation(tmp_path, megabytes * MB, PARTNERS) as house:
        yield house, megabytes, rounds


def behind(house: House, proxy: FaultProxy) -> None:
    """Start the partners again, with the proxy where they look for the server."""
    for name in PARTNERS:
        house.stop(name)
        house.reach(name, proxy.port)
        with (house.folder / name / "client.toml").open("a") as file:
            file.write(LINK)
        house.start_partner(name)


def finished(house: House, rounds: int) -> dict[str, Any]:
    """A run's view, once it has ended."""
    round_seconds(house, rounds, len(PARTNERS))
    view: dict[str, Any] = house.run("run", "show", "last", "--as", "scientist")
    assert view["summary"]["state"] == "finished", view["summary"]["reason"]
    return view


def test_rounds_over_the_worst_link_end_with_the_undisturbed_runs_digest(federation: tuple[House, int, int]) -> None:
    house, megabytes, rounds = federation
    undisturbed = finished(house, rounds)
    with proxied(house.port, worst(megabytes)) as proxy:
        behind(house, proxy)
        disturbed = finished(house, rounds)
        for name in PARTNERS:
            house.stop(name)
    assert disturbed["summary"]["model"] == undisturbed["summary"]["model"]
    assert len(disturbed["steps"]) == rounds
    assert [step["slots"] for step in disturbed["steps"]] == [step["slots"] for step in undisturbed["steps"]]
    kinds = {kind for kind in ("half-open up", "half-open down", "cut", "overtaken", "refused", "late")
             if any(kind in line for line in proxy.log)}  # fmt: skip
    assert len(kinds) == 6, proxy.log
    for name in ("server", *PARTNERS):
        log = (house.folder / f"{name}.log").read_text()
        assert not [line for line in log.splitlines() if any(trouble in line for trouble in TROUBLES)], name
