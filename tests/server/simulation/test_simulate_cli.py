"""`aimass simulate` as a person types it: what it shows, and a sentence for what cannot be."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.server.simulation.telling import Teller

PLAN = """
name = "digits-trial"
task = "digits"
data_schema = "digits/1"
seed = 1
[train]
batch_size = 20
learning_rate = 0.1
steps = 2
[cohort]
quorum = 2
sample = 3
[[stages]]
driver = "averaging"
options = { rounds = 2 }
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("plan.toml").write_text(PLAN)
    Path("rows.csv").write_text("a,b\n1,2\n")
    return tmp_path


def failed(command: str, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert main([*command.split(), "--json"]) in (2, 3, 4, 6, 9)
    error: dict[str, str] = json.loads(capsys.readouterr().err.strip().splitlines()[-1])["error"]
    return error


def test_a_trial_tells_its_rounds_and_leaves_model_plan_and_metrics(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = "simulate plan.toml --rows digits --partners 12 --split labels:2 --workers 1"
    Path("plan.toml").write_text(PLAN + '[promote]\nmodel = "digits"\n')
    assert main(command.split()) == 0
    told = capsys.readouterr()
    assert "nothing is published as digits from here" in told.err
    assert "12 partners, 1,797 rows dealt by labels:2" in told.err
    assert "round 2/2  train 3 of 3" in told.err
    assert "round 2/2  evaluate 12 of 12" in told.err
    assert "accuracy" in told.out
    out = here / "simulated-digits-trial"
    assert {"model.safetensors", "plan.json", "rounds.jsonl", "shards"} <= {path.name for path in out.iterdir()}
    assert failed(command, capsys)["code"] == "simulation.exists"
    assert main(["simulate", "plan.toml", "--resume", "--workers", "1", "--json"]) == 0
    again = json.loads(capsys.readouterr().out)
    assert (again["state"], again["rounds"]) == ("finished", 2)
    Path("plan.toml").write_text(PLAN.replace("rounds = 2", "rounds = 3"))
    assert failed("simulate plan.toml --resume --workers 1", capsys)["code"] == "simulation.plan"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ("", "simulation.rows"),
        ("--rows digits", "partition.partners"),
        ("--rows digits --partners 1798", "partition.partners"),
        ("--rows digits --partners 10 --split odd", "partition.split"),
        ("--rows digits --split column:hospital", "partition.column"),
        ("--rows digits --partners 1", "plan.cohort"),
        ("--rows nothing --partners 3", "data.absent"),
        ("--data rows.csv --partners 3", "rows.columns"),
        ("--rows heart --partners 3", "rows.columns"),
        ("--shards .", "partition.absent"),
        ("--resume", "simulation.absent"),
    ],
)
def test_what_cannot_be_is_told_in_a_sentence(
    here: Path, capsys: pytest.CaptureFixture[str], more: str, code: str
) -> None:
    assert failed(f"simulate plan.toml --workers 1 {more}", capsys)["code"] == code
    assert not (here / "simulated-digits-trial" / "shards").exists()


@pytest.mark.parametrize(
    ("more", "named"),
    [
        ("--resume --data rows.csv", "--data"),
        ("--resume --rows digits --partners 12 --split iid", "--rows, --partners, --split"),
        ("--resume --shards shards", "--shards"),
        ("--resume --seed 0 --smallest 2 --held-out 0.2", "--seed, --smallest, --held-out"),
        ("--resume --policy policy.toml --person who", "--person, --policy"),
        ("--shards shards --partners 3 --split iid --seed 0", "--partners, --split, --seed"),
        ("--shards shards --smallest 2 --held-out 0 --person who", "--smallest, --held-out, --person"),
        ("--rows digits --partners 3 --spark local[1] --workers 0", "--workers"),
    ],
)
def test_an_option_that_would_say_nothing_is_refused_with_its_cause(
    here: Path, capsys: pytest.CaptureFixture[str], more: str, named: str
) -> None:
    error = failed(f"simulate plan.toml {more}", capsys)
    assert (error["code"], error["value"]) == ("simulation.options", named)
    assert f"Leave {named} out" in error["cure"]
    assert list(here.glob("simulated-*")) == []


SURVEY = """
name = "survey"
task = "heart"
data_schema = "heart/1"
seed = 1
[train]
batch_size = 20
learning_rate = 0.1
steps = 2
[cohort]
quorum = 4
[[stages]]
driver = "moments"
"""


def test_partners_with_a_pace_are_told_of_by_its_clock(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stage = 'driver = "fedbuff"\noptions = { rounds = 2, buffer = 2 }'
    plan = PLAN.replace("sample = 3\n", "").replace('driver = "averaging"\noptions = { rounds = 2 }', stage)
    Path("plan.toml").write_text(plan)
    Path("pace.toml").write_text("seconds = 60.0\nslower = { p0002 = 10.0 }\n")
    dealt = "simulate plan.toml --rows digits --partners 4 --workers 1 --pace pace.toml"
    assert main(dealt.split()) == 0
    told = capsys.readouterr()
    assert "round 1/2  train 1 of 1, at 60.0 s" in told.err
    assert "round 2/2  train 1 of 1, at 126.0 s" in told.err  # after what was measured of the first
    assert failed("simulate --resume --out simulated-digits-trial --pace pace.toml", capsys)["code"] == (
        "simulation.options"
    )
    Path("pace.toml").write_text("second = 60.0\n")
    assert "second" in failed(f"{dealt} --out other", capsys)["what"]


def test_surveys_are_simulated_too_and_their_tables_shown(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("survey.toml").write_text(SURVEY)
    assert main(["simulate", "survey.toml", "--rows", "heart", "--split", "natural", "--workers", "1"]) == 0
    told = capsys.readouterr()
    assert "moments 4 of 4" in told.err
    assert "53.559" in told.out, "the mean age of the training rows"


def test_ctrl_c_stops_it_with_its_processes_and_says_how_to_go_on(here: Path) -> None:
    Path("plan.toml").write_text(PLAN.replace("rounds = 2", "rounds = 1000"))
    command = [sys.executable, "-m", "aimass.proto.commands", "simulate", "plan.toml", "--rows", "digits"]
    process = subprocess.Popen(
        [*command, "--partners", "9", "--workers", "2", "--out", "out"],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    while not (line := process.stderr.readline()).startswith("round 1/"):
        assert line, "it ended before its first round"
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to all of them
    told = process.communicate(timeout=60)[1]
    assert process.returncode == 130, told
    assert "to go on: aimass simulate --resume --out out" in told
    assert "Traceback" not in told
    until = time.monotonic() + 30
    with pytest.raises(ProcessLookupError):
        while time.monotonic() < until:  # the last of them ends a moment after its parent
            os.killpg(process.pid, 0)


def test_a_ctrl_c_that_was_dropped_is_raised_at_the_next_answer() -> None:
    teller = Teller(argparse.Namespace(quiet=True, json=False))
    teller.working(0, 1, 1, 9)
    with pytest.raises(KeyboardInterrupt):
        teller.cut()
    with pytest.raises(KeyboardInterrupt):
        teller.working(0, 1, 2, 9)


def test_without_spark_the_line_to_type_is_told(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyspark.sql", None)
    error = failed("simulate plan.toml --rows digits --partners 3 --spark local[1]", capsys)
    assert error["code"] == "spark.absent"
    assert "aimass[offline]" in error["cure"]


def test_its_help_shows_examples_and_the_rules(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    told = capsys.readouterr().out
    assert "examples:\n  aimass simulate" in told
    assert "dirichlet:A" in told
