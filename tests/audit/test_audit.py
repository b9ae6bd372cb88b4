"""The audit itself: it is honest, it has the power that is stated, and what it says of every mechanism is right."""

from __future__ import annotations

import ast
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest

from aimass.client import private_trainer
from aimass.privacy.dp import distributed
from tests.audit import main
from tests.audit.figures import FIGURES
from tests.audit.findings import CONFIDENCE, FAMILY, LOOK, Bound, Look
from tests.audit.inside import INSIDE
from tests.audit.rows import SUBJECTS, Outcome, Row, conclusion, examined, rows
from tests.audit.sums import SUMS
from tests.audit.trainings import TRAININGS
from tests.support.games import epsilon_at_least

ROOT = Path(__file__).parents[2]
QUICK = {
    "Gaussian on the grid, one sum", "DP-SGD, canaries of one run", *(one.name for one in INSIDE if "samples" not in one.name)
}  # fmt: skip
ALL = [*rows(SUBJECTS.values())]


def ideal(deviation: float, trials: int, seed: int, confidence: float = 0.95) -> float:
    """The game on a plain Gaussian of sensitivity one."""
    chance = np.random.default_rng(seed)
    with_, without = (chance.normal(mean, deviation, trials) for mean in (1.0, 0.0))
    return epsilon_at_least(with_, without, 1e-5, confidence)


@pytest.mark.parametrize(("trials", "games", "proven"), [(1_000, 300, 0.38), (100_000, 30, 1.29)])
def test_the_games_power_is_the_specifications(trials: int, games: int, proven: float) -> None:
    """SECAGG 14 has 0.40 and 1.29 for half the noise of epsilon 1 (3.73063) at 95 %: this is the mean over games."""
    found = np.mean([ideal(3.73063 / 2, trials, seed) for seed in range(games)])
    assert float(found) == pytest.approx(proven, abs=0.05)


def test_the_games_bound_is_above_the_truth_no_more_often_than_is_stated() -> None:
    """A leak of epsilon 1 that a threshold sees whole: randomised response."""
    share, chance = math.e / (1 + math.e), np.random.default_rng(1)
    answers = (chance.random((400, 2, 400)) < [[share], [1 - share]]).astype(np.float64)
    found = [epsilon_at_least(with_, without, 0.0, 0.8) for with_, without in answers]
    above = sum(each > 1.0 for each in found) / len(found)
    assert above <= 0.2 + 5 * math.sqrt(0.16 / len(found))
    assert float(np.median(found)) > 0.3


def test_one_run_of_the_audit_accuses_a_right_mechanism_once_in_a_thousand_at_most() -> None:
    bounds = len((*SUMS, *TRAININGS, *FIGURES))
    assert bounds * (1 - CONFIDENCE) + len(INSIDE) * LOOK <= FAMILY


@pytest.mark.parametrize("row", [row for row in ALL if row.subject in QUICK], ids=str)
def test_a_right_mechanism_is_as_stated_and_a_broken_one_is_caught(row: Row) -> None:
    outcome = examined(row, quick=True)
    assert outcome.right, outcome


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_mechanism_is_as_stated_and_every_broken_one_is_caught(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.audit(ALL, quick=True, as_json=False) == 0
    assert "broken ones: all caught" in capsys.readouterr().out.splitlines()[-1]


def test_what_the_issue_names_is_broken_somewhere() -> None:
    broken = {row.broken for row in ALL}
    assert broken >= {
        "half the noise", "no noise", "no clipping", "clip by batch, not by row", "a seed used again",
        "one seed for all partners", "shuffled batches", "batches of one size", "a tenth of the rate told",
        "own batch as divisor", "debit after use", "one share of noise too few", "least cohort M lowered",
        "the wrong sign", "rounds of a partner too close", "clip by row, not by person",
    }  # fmt: skip


def test_a_seam_is_put_back() -> None:
    def seams() -> tuple[object, object]:
        return vars(private_trainer)["ClippedSums"], vars(distributed)["unrotate"]

    before = seams()
    for row in (Row("DP-SGD, clipped sums", "no clipping"), Row("secure sum, rotation", "the wrong sign")):
        examined(row, quick=True)
    assert seams() == before


def test_every_look_names_a_test_that_is_there() -> None:
    for subject in INSIDE:
        finding = examined(Row(subject.name), quick=True).finding
        assert isinstance(finding, Look)
        path, _, test = finding.test.partition("::")
        defined = {node.name for node in ast.parse((ROOT / path).read_text()).body if isinstance(node, ast.FunctionDef)}
        assert test in defined


def outcome(broken: str, least: float) -> Outcome:
    return Outcome(Row("a mechanism", broken), Bound("game", 1.0, 1e-5, least, 1_000), 0.1)


def test_the_last_line_counts_and_says_what_went_wrong() -> None:
    look = Outcome(Row("another", "turned"), Look("the sign", "tests/x.py::test_sign", caught=True), 0.1)
    fine = [outcome("", 0.5), outcome("half", 1.5), look]
    assert conclusion(fine).startswith("1 real mechanisms: all lower bounds below the stated epsilon, ")
    assert conclusion(fine).endswith("2 broken ones: all caught (1 by the audit, 1 by structure)")
    accused, missed = outcome("", 1.5), outcome("half", 0.5)
    assert [each.verdict for each in (*fine, accused, missed)] == [
        "as stated",
        "caught",
        "caught",
        "ACCUSED",
        "NOT CAUGHT",
    ]
    assert "1 real mechanisms: ONLY 0 lower bounds" in conclusion([accused, missed])
    assert conclusion([accused, missed]).endswith("1 broken ones: ONLY 0 caught (0 by the audit, 0 by structure)")


def test_the_command_says_in_its_status_whether_all_is_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def played(chosen: list[Row], *, quick: bool) -> list[Outcome]:
        return [outcome(row.broken, 2.0) for row in chosen]

    monkeypatch.setattr(main, "outcomes", played)
    monkeypatch.setattr(sys, "argv", ["audit", "--quick", "--json", "Skellam"])
    assert main.main() == 1
    document = json.loads(capsys.readouterr().out)
    assert [row["verdict"] for row in document["rows"]] == ["ACCUSED", "caught"]
    assert document["wrong"] == 1
    monkeypatch.setattr(sys, "argv", ["audit", "no such mechanism"])
    with pytest.raises(SystemExit):
        main.main()
