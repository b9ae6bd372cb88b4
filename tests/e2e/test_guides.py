"""The guides, typed as they stand: root, server, scientist and two partners with a task by a newcomer's hand."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from aimass.proto.app_plan import app_plan, read_app_draft
from aimass.proto.apps import read_app
from aimass.proto.tensors import Blob
from tests.support.flower_house import APPS
from tests.support.guides import Machines, blocks_of

DOCS = Path(__file__).parents[2] / "docs"
HOSTS = {"hub.example": "127.83.77.2"}  # all of 127/8 is the loopback, and nobody else is likely to be here
SOUTH = [("north", "south")]


def rows(seed: int) -> str:
    """300 rows of the new task's schema, with a rule in them, missing cells and two categories."""
    chance = random.Random(seed)
    lines = ["age,temperature,ward,outcome"]
    for _ in range(300):
        age, temperature, ward = chance.randint(20, 90), round(chance.uniform(35, 41), 1), chance.choice("abc")
        outcome = "yes" if temperature + age / 50 + (ward == "a") > 40 else "no"
        lines.append(f"{'' if chance.random() < 0.1 else age},{temperature},{ward},{outcome}")
    return "\n".join(lines) + "\n"


def line(seed: int) -> str:
    """60 rows of two features and twice the first, less the second, and a half."""
    chance = random.Random(seed)
    points = [(chance.uniform(-1, 1), chance.uniform(-1, 1)) for _ in range(60)]
    return "a,b,c\n" + "".join(f"{a},{b},{2 * a - b + 0.5}\n" for a, b in points)


@pytest.mark.timeout(600)
def test_the_guides_commands_lead_to_a_model_of_a_new_task_on_two_partners(tmp_path: Path) -> None:
    guides = blocks_of([DOCS / f"{name}.md" for name in ("operator", "partner", "scientist", "coming-from-flower")])
    done: set[tuple[str, str]] = set()
    with Machines(tmp_path, HOSTS) as machines:
        for name in ("root", "hub", "north", "south", "sam"):
            machines.machine(name)

        def typed(guide: str, number: str, *, south: bool = False) -> str:
            done.add((guide, number))
            return machines.run(guides, guide, number, SOUTH if south else ())

        for number in "12345":
            typed("operator", number)
        for guide, south in (("partner", False), ("partner", True), ("scientist", False)):
            typed(guide, "6", south=south)
        machines.shows("hub", "aimass server status --as olga", "pending_enrolments 3")
        for number in "789":
            typed("operator", number)
        machines.enrolled()
        typed("scientist", "10")
        for seed, (partner, south) in enumerate((("north", False), ("south", True))):
            (machines.machine(partner) / "ward.csv").write_text(rows(seed))
            assert "300" in typed("partner", "11", south=south)
        typed("scientist", "12")
        for partner, south in (("north", False), ("south", True)):
            machines.shows(partner, f"aimass client pending --dir {partner}", "ward")
            typed("partner", "13", south=south)
        assert "finished" in typed("scientist", "14")
        for south in (False, True):
            assert "analyse:statistics" in typed("partner", "15", south=south)
        printed = typed("scientist", "16")
        assert "10 finished" in printed
        views = json.loads(machines.run({("", ""): ("sam", "aimass run show last --as sam --json")}, "", ""))
        auc = [step["metrics"]["auc"]["mean"] for step in views["steps"] if "auc" in step["metrics"]]
        assert auc[-1] > max(0.8, auc[0])
        first, again = (machines.machine("sam") / f"{name}.safetensors" for name in ("model", "again"))
        assert first.read_bytes() == again.read_bytes()

        shutil.copytree(APPS / "quickstart", machines.machine("sam") / "quickstart")
        typed("coming-from-flower", "17")
        assert "quickstart" in typed("coming-from-flower", "18")
        for seed, (partner, south) in enumerate((("north", False), ("south", True))):
            (machines.machine(partner) / "rows.csv").write_text(line(seed))
            typed("coming-from-flower", "19", south=south)
        assert "finished" in typed("coming-from-flower", "20")
        weights = Blob((machines.machine("sam") / "quickstart.safetensors").read_bytes()).arrays()["weights"]
        assert np.allclose(weights, [2.0, -1.0, 0.5], atol=0.05)
    assert done == set(guides)


def test_a_guides_plan_is_the_one_that_a_new_task_brings(tmp_path: Path) -> None:
    from aimass.client.task_template import write_task

    plan = (write_task("ward", tmp_path) / "plan.toml").read_text()
    shown = (DOCS / "scientist.md").read_text().partition("```toml\n")[2].partition("```")[0]
    assert plan.partition("\n")[2] == shown


def test_what_stands_beside_an_app_in_the_page_for_flowers_users_makes_a_plan() -> None:
    shown = (DOCS / "coming-from-flower.md").read_text().partition("```toml\n")[2].partition("```")[0]
    plan, _ = app_plan(read_app(APPS / "quickstart"), read_app_draft(shown, "the page"), {"lr": 0.2})
    assert plan.secure is not None
    assert (plan.name, plan.stages[0].options) == ("quickstart-secure", {"rounds": 5, "config.lr": 0.2})
