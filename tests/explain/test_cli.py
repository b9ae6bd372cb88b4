"""`aimass explain` as a person types it: files in a folder, sentences or JSON, and an error for every wrong word."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from pyarrow import parquet

from aimass.explain import questions
from aimass.explain.opening import Where
from aimass.explain.question_cli import add_subject, where_of
from aimass.explain.questions import QUESTIONS
from aimass.explain.report import model_report
from aimass.explain.results import Result
from aimass.proto.commands import main
from tests.support.asked import ASKED, MeansResult
from tests.support.datasets import dataset
from tests.support.served_heart import TASK, publish_heart

MODEL = "def predict(x):\n    return x[:, 0] * 2\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a model and rows; a question more."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    for module in (questions, model_report):
        monkeypatch.setattr(module, "QUESTIONS", (ASKED,))
    (tmp_path / f"{tmp_path.name}.py").write_text(MODEL)
    (tmp_path / "rows.csv").write_text("a,b,y\n1,2,3.5\n3,4,4.5\n")
    return tmp_path


def ask(here: Path, *more: str, rows: str = "rows.csv", verb: str = "means", out: str = "out") -> int:
    name = here.name.replace("-", "_")
    return main(["explain", verb, f"{name}:predict", "--rows", rows, "--label", "y", "--out", out, *more])


def test_an_answer_is_a_folder_of_files_and_sentences(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(here, "--held-out", "--seed", "5", "--background", "rows.csv") == 0
    told = capsys.readouterr()
    assert told.out.splitlines()[1:] == ["It says 4.000 on average.", "5 files in out"]
    assert "50 % asking" in told.err
    assert sorted(path.name for path in (here / "out").iterdir()) == [
        "means-meansresult.csv", "means-meansresult.png", "means-meansresult.svg", "means.html", "means.json",
    ]  # fmt: skip
    found = MeansResult.from_json((here / "out/means.json").read_bytes())
    assert (found.means.tolist(), found.lineage.held_out, found.lineage.seed, found.background) == ([4.0], True, 5, 2)
    assert (here / "out/means-meansresult.csv").read_text() == "output,mean\nprediction,4.0\n"


def test_each_option_that_says_where_a_model_is_says_that_and_no_other(here: Path) -> None:
    parser = argparse.ArgumentParser()
    add_subject(parser)
    args = parser.parse_args(
        ["m", "--rows", "rows.csv", "--registry", "R", "--task", "T", "--as", "H", "--token", "K", "--ca", "C"]
    )
    found = where_of(args)
    assert found == Where(registry="R", home=Path("H"), task="T", token=Path("K"), authority=Path("C"))


def test_json_for_programs_and_only_the_formats_that_are_wanted(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(here, "--json", "--formats", "csv,json") == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["written"] == ["out/means.json", "out/means-meansresult.csv"]
    assert not told.err


def test_a_report_is_one_file(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(here, verb="report", out="report.html") == 0
    assert "means" in capsys.readouterr().out
    assert "It says 4.000 on average." in (here / "report.html").read_text()


def test_labels_of_an_estimator_are_its_own_in_its_order(here: Path) -> None:
    (here / f"{here.name}.py").write_text(
        "class predict:\n"
        "    classes_ = ['maybe', 'yes', 'no']\n"
        "    predict_proba = staticmethod(lambda x: [[0.0, 0.25, 0.75]] * len(x))\n"
    )
    (here / "rows.csv").write_text("a,b,y\n1,2,no\n3,4,yes\n")
    assert ask(here, "--formats", "json") == 0
    found = MeansResult.from_json((here / "out/means.json").read_bytes())
    assert (found.outputs, found.means.tolist()) == (("maybe", "yes", "no"), [0.0, 0.25, 0.75])
    (here / "rows.csv").write_text("a,b,y\n1,2,no\n3,4,never\n")
    assert ask(here, "--formats", "json") == 2


def test_a_report_of_nothing_is_an_error(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / f"{here.name}.py").write_text("def predict(x):\n    return x[:, 0] * float('nan')\n")
    assert ask(here, "--json", verb="report", out="report.html") == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "explain.not_finite"
    assert not (here / "report.html").exists()


@pytest.mark.parametrize(
    ("more", "exit_code", "code"),
    [
        (("--times", "0"), 2, "explain.option"),
        (("--formats", "pdf"), 2, "explain.format"),
        (("--label-is", "classes"), 2, "explain.label"),
        (("--time-limit", "-1"), 5, "explain.time"),
        (("--memory", "0"), 2, "explain.work"),
        (("--background", "absent.csv"), 4, "explain.rows_file"),
        (("--also", "moon"), 2, "explain.beside"),
    ],
)
def test_a_wrong_word_is_told_and_nothing_is_written(
    here: Path, capsys: pytest.CaptureFixture[str], more: tuple[str, ...], exit_code: int, code: str
) -> None:
    assert ask(here, "--json", *more) == exit_code
    assert json.loads(capsys.readouterr().err)["error"]["code"] == code
    assert not (here / "out").exists()


def test_an_interrupt_ends_it_with_130_and_without_files(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / f"{here.name}.py").write_text("def predict(x):\n    raise KeyboardInterrupt\n")
    assert ask(here) == 130
    assert not (here / "out").exists()


def test_every_question_that_is_here_says_its_options_and_its_result() -> None:
    for one in QUESTIONS:
        if one.here:
            assert issubclass(one.result, Result)
            one.options()


def test_the_report_of_a_real_model_over_rows_without_labels_says_what_it_could_not_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMASS_CACHE", str(tmp_path / "cache"))
    url, trust = publish_heart(tmp_path)
    rows = parquet.read_table(dataset("heart") / "hungarian.parquet").drop_columns([TASK.schema.label.name])
    parquet.write_table(rows.slice(0, 60), tmp_path / "rows.parquet")
    report = ["explain", "report", "heart@champion", "--rows", str(tmp_path / "rows.parquet"), "--registry", url]
    assert main([*report, "--trust", str(trust), "--row", "7", "--out", str(tmp_path / "heart.html"), "--quiet"]) == 0
    text = (tmp_path / "heart.html").read_text()
    assert "row 8" in text  # the first is --row 0, and row 1 for people
    assert "What the model uses: these rows have no labels" in text
    assert "<h3>heart, version 1</h3>" in text
    assert "Something of single rows or images stands in this file: of 1 in" in text  # the row that it explains
    assert (tmp_path / "heart.html").stat().st_mode & 0o777 == 0o600


def test_a_wrong_target_is_told_before_anything_is_computed(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / f"{here.name}.py").write_text("def predict(x):\n    raise SystemError('asked')\n")
    (here / "out").write_text("a file")
    assert ask(here, "--json") == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "explain.out"
    (here / "out").unlink()
    assert ask(here, "--json", "--formats", "jpg") == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "explain.format"
    assert ask(here, "--json", "--row", "999", verb="report", out="report.html") == 2
    assert json.loads(capsys.readouterr().err)["error"]["code"] == "explain.row"
    assert not (here / "report.html").exists()
