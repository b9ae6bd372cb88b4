"""Explanations through the server's driver and the partners' gate: equal to the pooled computation over who counts."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.explain.federated import confusion
from aimass.proto.analysis import AtPartner
from aimass.proto.asking import ask_of
from aimass.proto.errors import BadInput, Refused
from aimass.proto.plan import Plan, SecureSettings, decode_plan, encode_plan
from aimass.proto.statistics import PhaseSums, Statistics
from aimass.proto.tensors import Array, Blob
from aimass.server.drivers.explain import driver
from tests.support.explanations import (
    HOSPITALS,
    SECURE,
    asked,
    found_in,
    hospital_shards,
    pooled,
    run_phases,
    task,
)


def over(plan: Plan, model: bytes, names: tuple[str, ...]) -> dict[str, Array]:
    """The sums of all rows of these hospitals in one place."""
    shards = [shard for shard in hospital_shards() if shard.participant in names]
    return dict(confusion.analysis.compute(ask_of(plan), 0, AtPartner.of(task, Blob(model), pooled(shards))))


@pytest.mark.parametrize("secure", [None, SECURE], ids=["plain", "secure"])
@pytest.mark.parametrize("lost", [(), ("hungarian",)], ids=["all", "one lost"])
def test_sums_are_those_of_the_pooled_rows_of_who_was_counted(
    secure: SecureSettings | None, lost: tuple[str, ...], tmp_path: Path
) -> None:
    plan, model = asked("confusion", {"bins": 10}, secure=secure)
    (statistics,) = run_phases(plan, model, tmp_path, lost={0: lost})
    found = found_in(statistics)
    assert found.partners == tuple(name for name in HOSPITALS if name not in lost)
    whole = over(plan, model, found.partners)
    for name in ("cells", "classes"):
        np.testing.assert_array_equal(found.sums[name], whole[name])
    np.testing.assert_allclose(found.sums["scores"], whole["scores"], rtol=0, atol=1e-9)
    assert isinstance(statistics.found, PhaseSums)
    off = np.abs(found.sums["scores"] - whole["scores"]).max()
    assert off <= statistics.found.quantum + 1e-12
    assert (0 < statistics.found.quantum < 1e-9) is (secure is not None)
    assert found.sums["classes"].sum() == len(
        pooled([s for s in hospital_shards() if s.participant in found.partners]).labels
    )


def test_cells_of_few_rows_stay_at_each_partner_with_their_sums(tmp_path: Path) -> None:
    plan, model = asked("confusion", {"bins": 10})
    (whole,) = run_phases(plan, model, tmp_path / "whole")
    (statistics,) = run_phases(plan, model, tmp_path / "few", least=5)
    found, every = found_in(statistics).sums, found_in(whole).sums
    assert found["cells"].sum() < every["cells"].sum()
    ones = [run_phases(plan, model, tmp_path / s.participant, shards=[s], least=5) for s in hospital_shards()]
    for (one,) in ones:
        cells = found_in(one).sums["cells"]
        assert not ((cells > 0) & (cells < 5)).any()
        assert (found_in(one).sums["scores"][cells == 0] == 0).all()


def test_noise_is_by_what_a_row_adds_to_each_tensor_and_stands_with_the_sums(tmp_path: Path) -> None:
    plan, model = asked("confusion", {"bins": 200}, noise=2.0)
    (statistics,) = run_phases(plan, model, tmp_path, least=5)
    assert isinstance(statistics.found, PhaseSums)
    noises = {one.name: one.noise for one in statistics.found.sums}
    assert noises == pytest.approx(dict.fromkeys(("cells", "scores", "classes"), 2.0 * np.sqrt(3) * 2))
    whole = over(plan, model, HOSPITALS)
    off = found_in(statistics).sums["cells"] - whole["cells"]
    assert off.std() == pytest.approx(noises["cells"], rel=0.15)  # 400 cells: the deviation's own is 3.5 %
    assert abs(off.mean()) < 4 * noises["cells"] / np.sqrt(off.size)


def test_a_plan_goes_over_the_wire_with_all_that_it_asks(tmp_path: Path) -> None:
    plan, _ = asked("confusion", {"bins": 10})
    assert decode_plan(encode_plan(plan)) == plan
    assert plan.explain is not None
    assert plan.explain.steps == 1


def test_an_analysis_that_is_not_the_plans_is_refused_at_both_sides(tmp_path: Path) -> None:
    plan, _ = asked("confusion")
    assert plan.explain is not None
    other = msgspec.structs.replace(plan, explain=msgspec.structs.replace(plan.explain, digest="0" * 64))
    with pytest.raises(Refused, match="not the plan's"):
        driver.check(other, other.stages[0])
    cells = plan.explain.phases[0].cells
    fewer = msgspec.structs.replace(plan.explain.phases[0], cells=cells[:1])
    less = msgspec.structs.replace(plan, explain=msgspec.structs.replace(plan.explain, phases=(fewer,)))
    with pytest.raises(Refused, match="other sums"):
        driver.check(less, less.stages[0])


def test_a_plan_without_what_partners_need_is_an_error() -> None:
    plan, _ = asked("confusion")
    with pytest.raises(BadInput, match="does not say what is to be explained"):
        driver.check(msgspec.structs.replace(plan, explain=None), plan.stages[0])
    with pytest.raises(ValueError, match="goes with a stage"):
        msgspec.structs.replace(plan, stages=(msgspec.structs.replace(plan.stages[0], driver="counts"),))
    with pytest.raises(BadInput, match="colour"):
        asked("confusion", {"colour": 3})
    with pytest.raises(BadInput, match="held_out"):
        asked("confusion", {"rows": "all"})


def test_what_was_found_is_written_and_read_again(tmp_path: Path) -> None:
    plan, model = asked("confusion")
    (statistics,) = run_phases(plan, model, tmp_path)
    assert msgspec.json.decode(msgspec.json.encode(statistics), type=Statistics) == statistics
