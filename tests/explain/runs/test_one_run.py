"""What happened in a run, from runs of which it is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from aimass.explain.charts.picture import MOST_POINTS, Heat, Points
from aimass.explain.runs import explain
from aimass.explain.runs.course import course
from aimass.explain.runs.layers import cosines, layers, rank_correlation, relations
from aimass.explain.runs.participation import participation
from aimass.explain.runs.readings import thinned
from aimass.explain.runs.results import OneRun
from aimass.explain.runs.trajectory import principal_plane, trajectory
from aimass.proto.errors import BadInput, WrongState
from aimass.proto.views import RunView, SlotState
from tests.explain.runs import made


def trained(rounds: int = 4, seed: int = 1) -> RunView:
    """Layer `b` changes twice as much as `a` each round, `c` the less the more they do."""
    random, steps = np.random.default_rng(seed), []
    for round_ in range(1, rounds + 1):
        size = random.uniform(1, 2)
        norms = {"a": size, "b": 2 * size, "c": 1 / size}
        drifts = {"a": size * round_, "b": 9.0 * round_, "c": 0.1}
        steps += [
            made.step(2 * round_ - 2, round_, summary=made.summary(norms, drifts, random.normal(size=made.BUCKETS))),
            made.evaluated(2 * round_ - 1, round_, {"auc": 0.5 + 0.1 * round_, "loss": 1 / round_}, a=0.6, b=0.7),
        ]
    return made.run(steps)


def test_curves_are_the_metrics_after_each_round_with_what_partners_release() -> None:
    found = course(trained())
    auc = found.curves[0]
    assert auc.name == "auc"
    np.testing.assert_allclose(auc.mean, [0.6, 0.7, 0.8, 0.9])
    np.testing.assert_array_equal(auc.rounds, [1, 2, 3, 4])
    np.testing.assert_allclose(auc.by_partner, [[0.6] * 4, [0.7] * 4])
    assert found.describe()[0].startswith("auc went from 0.6 (round 1) to 0.9 (round 4)")
    assert "at 2 partners 0.6 to 0.7" in found.describe()[0]
    assert found.lineage.partners == 2
    assert found.lineage.held_out
    assert "are partners" in found.picture().how_to_read
    assert "partner" not in course(made.run([made.evaluated(0, 1, {"auc": 0.6})])).picture().how_to_read
    assert course(made.run([made.step(0, 1)])).lineage.held_out is None


def test_of_an_offline_run_it_is_told_how_long_its_steps_took_and_of_no_partner() -> None:
    found = participation(made.run([made.step(0, 1, slots={}), made.step(1, 1, slots={})], kind="offline"))
    assert found.describe() == ("A step took 2 s (median), the longest, step 0, 2 s.",)
    assert [panel.title for panel in found.picture().panels] == ["seconds"]
    assert "partner" not in found.picture().how_to_read


def test_a_metric_of_another_model_stands_apart() -> None:
    found = course(made.run([made.evaluated(0, 1, {"auc": 0.6}), made.step(1, 1, purpose="personal", metrics={})]))
    assert [curve.name for curve in found.curves] == ["auc"]


def test_a_run_without_evaluations_says_so() -> None:
    found = explain(made.run([made.step(0, 1)]))
    assert "measured nothing" in found.describe()[0]
    assert found.layers is None
    assert "no step of this run has changed a model yet" in found.caveats[0]
    assert found.to_svg().startswith("<svg")


def test_a_run_that_diverged_is_told_so_and_drawn() -> None:
    found = explain(made.run([made.step(0, 1), made.evaluated(1, 1, {"loss": float("nan")})]))
    assert "loss was no number in any of 1 rounds" in found.describe()[0]
    assert found.to_svg().startswith("<svg")
    assert OneRun.from_json(found.to_json()) == found


def test_a_run_that_has_not_begun_is_no_fault() -> None:
    found = explain(made.run([]))
    assert "No step of this run has ended yet." in found.describe()
    assert found.participation.to_svg().startswith("<svg")


def test_who_took_part_is_told_by_step_with_seconds_and_reasons() -> None:
    slots = {"a": SlotState.COUNTED, "b": SlotState.LATE}
    reasons = {"b": "no answer in time"}
    steps = [
        made.step(0, 1),
        made.step(1, 2, slots=slots, reasons=reasons),
        made.step(2, 3, slots={"a": SlotState.COUNTED}),
    ]
    found = participation(made.run(steps))
    np.testing.assert_array_equal(found.states, [[1, 1, 1], [1, 2, 0]])
    np.testing.assert_allclose(found.counted, [1.0, 0.5])
    np.testing.assert_allclose(found.seconds, 2.0)
    assert found.reasons == {"no answer in time": 1}
    assert "Least often counted: b (50 %)." in found.describe()
    rows = found.to_columns()
    assert list(zip(rows["partner"], rows["step"], rows["state"], strict=True))[4] == ("b", 1, "late")


def test_layers_that_change_together_are_found_and_the_one_that_moved_most() -> None:
    run = trained(8)
    found = relations(run)
    assert found.names == ("a", "b", "c")
    assert found.correlation[0, 1] == pytest.approx(1.0)
    assert found.correlation[0, 2] == pytest.approx(-1.0)
    assert "a and b change in step most" in found.describe()[0]
    assert layers(run).describe()[0].startswith("From the first model b has moved furthest (72), c least (0.1)")


def test_rank_correlation_is_scipys_with_ties_and_none_of_a_constant() -> None:
    random = np.random.default_rng(3)
    series = random.integers(0, 5, (4, 12)).astype(np.float64)
    np.testing.assert_allclose(rank_correlation(series), stats.spearmanr(series, axis=1).statistic, atol=1e-12)
    assert np.isnan(rank_correlation(np.ones((2, 5)))).all()


def test_cosines_of_sketches_are_those_of_the_changes_to_their_noise() -> None:
    """A count sketch of changes at a known angle."""
    random = np.random.default_rng(4)
    one, other = random.normal(size=(2, 50_000))
    changes = np.stack([one, 0.6 * one + 0.8 * other, -one])
    bucket, sign = random.integers(0, made.BUCKETS, 50_000), random.choice([-1.0, 1.0], 50_000)
    sketches = np.array([np.bincount(bucket, change * sign, made.BUCKETS) for change in changes])
    found = cosines(sketches)
    assert found[0, 2] == pytest.approx(-1.0)
    assert found[0, 1] == pytest.approx(0.6, abs=3 / np.sqrt(made.BUCKETS))


def test_a_way_along_a_line_lies_on_the_first_component_and_keeps_its_direction() -> None:
    straight = np.outer(np.arange(5.0), np.eye(made.BUCKETS)[3])
    at, shares = principal_plane(straight)
    np.testing.assert_allclose(shares, [1.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(np.abs(np.diff(at[:, 0])), 1.0)
    turned, _ = principal_plane(straight + 7.0)
    np.testing.assert_allclose(turned, at, atol=1e-9)


def test_the_plane_is_that_of_a_singular_value_decomposition_and_distances_in_it_are_kept() -> None:
    random = np.random.default_rng(5)
    flat = random.normal(size=(9, 2)) @ random.normal(size=(2, made.BUCKETS))
    at, shares = principal_plane(flat)
    assert shares.sum() == pytest.approx(1.0)
    apart = np.linalg.norm(flat[:, None] - flat[None], axis=2)
    np.testing.assert_allclose(np.linalg.norm(at[:, None] - at[None], axis=2), apart, atol=1e-9)


def test_a_way_of_one_round_is_refused_with_the_cure() -> None:
    with pytest.raises(WrongState, match="needs two rounds"):
        trajectory(trained(1))


@pytest.mark.parametrize(("partners", "rounds"), [(1_000, 3), (3, 10_000)])
def test_very_large_runs_are_drawn_with_few_marks(partners: int, rounds: int) -> None:
    names = {f"p{place:04}": SlotState.COUNTED for place in range(partners)}
    figures = {name: 0.5 + place / partners / 10 for place, name in enumerate(names)}
    steps = [made.evaluated(index, index + 1, {"auc": 0.7}, **figures) for index in range(rounds)]
    steps = [made.step(0, 1, slots=names), *steps]
    found = explain(made.run(steps))
    assert found.course.picture().numbers() < 20_000
    assert found.participation.picture().numbers() < 20_000
    assert found.to_svg().startswith("<svg")


def test_a_spike_in_a_long_series_stays_to_be_seen() -> None:
    series = np.zeros(10_000)
    series[4_321], series[7_000] = 9.0, -9.0
    kept = thinned(series, 100)
    assert len(kept) <= 100
    assert {0, 4_321, 7_000, 9_999} <= set(kept.tolist())
    assert len(thinned(series[:50], 100)) == 50


def test_a_result_is_read_again_as_it_was_written_and_every_view_is_drawn() -> None:
    found = explain(trained(6))
    assert OneRun.from_json(found.to_json()) == found
    assert list(found.views()) == ["course", "participation", "layers", "relations", "trajectory"]
    for view in found.views().values():
        assert view.to_svg().startswith("<svg")
        assert len({len(column) for column in view.to_columns().values()}) == 1
        assert view.picture().shows_not


def test_of_very_many_rounds_pairs_are_as_many_as_a_picture_has_points_and_neighbours_are_of_all() -> None:
    random = np.random.default_rng(8)
    steps = [
        made.step(n, n + 1, summary=made.summary({"a": 1.0}, {"a": 1.0}, random.normal(size=made.BUCKETS)))
        for n in range(1_500)
    ]
    run = made.run(steps)
    found = relations(run)
    assert len(found.paired) == 70
    assert (found.paired[0], found.paired[-1]) == (1, 1_500)
    sketches = np.array([step.summary.sketch for step in steps if step.summary])
    every = np.diagonal(cosines(sketches), 1)
    assert found.neighbours == pytest.approx(float(every.mean()))
    assert found.picture().numbers() < 3 * MOST_POINTS
    assert layers(run).picture().numbers() < 3 * MOST_POINTS
    assert trajectory(run).picture().numbers() < MOST_POINTS + 1_001


def test_one_metric_can_be_looked_at_alone() -> None:
    run = made.run([made.evaluated(0, 1, {"auc": 0.5, "loss": 0.3})])
    assert [curve.name for curve in course(run).only("loss").curves] == ["loss"]
    with pytest.raises(BadInput, match="no such metric; got f1; allowed: auc, loss"):
        course(run).only("f1")


def test_a_metric_that_was_measured_once_is_a_dot_and_said_so() -> None:
    found = course(made.run([made.evaluated(0, 4, {"auc": 0.5})]))
    assert found.describe() == ("auc was measured once: 0.5 after round 4.",)
    assert [type(layer) for layer in found.picture().panels[0].layers] == [Points]


def test_the_legend_of_who_took_part_names_the_states_that_there_were() -> None:
    late = made.step(0, 1, slots={"a": SlotState.COUNTED, "b": SlotState.FAILED})
    heat = participation(made.run([late])).picture().panels[0].layers[0]
    assert isinstance(heat, Heat)
    assert heat.band_names == ("not asked", "counted", "failed")
    assert heat.bands == (0.5, 1.5)
    assert heat.values.ravel().tolist() == [1.0, 2.0]
