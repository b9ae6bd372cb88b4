"""`aimass serve audit`, and what status says of a model that is watched."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from aimass.proto.commands import main
from aimass.proto.serving_views import AuditLine, ColumnDrift, sentences_of
from aimass.server.serving.watching.audit_log import AuditLog
from aimass.server.serving.watching.moments import Moment
from aimass.server.serving.watching.retraining import retrain_key
from aimass.server.serving.watching.state import Again, Coming, Memory, Promoted, Refusal, Serving, Stage, State
from aimass.server.serving.watching.views import view_of
from tests.support.watching import BEGIN, release


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    log = AuditLog(tmp_path)
    for hours, target, kind in (
        (30, "heart@champion", "serves"),
        (2, "heart@champion", "refused"),
        (1, "lung", "serves"),
    ):
        at = time.time() - 3_600 * hours
        log.append([AuditLine(at=at, target=target, kind=kind, text=f"{kind} {hours} h ago", version=hours)])
    return tmp_path


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ([], ["serves 30 h", "refused 2 h", "serves 1 h"]),
        (["heart"], ["serves 30 h", "refused 2 h"]),
        (["heart@champion", "--since", "12h"], ["refused 2 h"]),
        (["--since", "1.5h"], ["serves 1 h"]),
        (["--kind", "refused", "--kind", "taken_back"], ["refused 2 h"]),
        (["lungs"], []),
    ],
)
def test_lines_are_chosen_by_model_time_and_kind(
    cache: Path, capsys: pytest.CaptureFixture[str], options: list[str], told: list[str]
) -> None:
    assert main(["serve", "audit", *options, "--cache", str(cache)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1].removesuffix(" ago") for line in lines] == told


def test_programs_get_a_line_of_json_each(cache: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "audit", "--json", "--cache", str(cache)]) == 0
    assert [json.loads(line)["version"] for line in capsys.readouterr().out.splitlines()] == [30, 2, 1]


def test_a_folder_that_is_not_there_is_named_and_so_is_a_time_that_is_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "audit", "--cache", str(tmp_path / "none")]) == 4
    assert "audit.absent" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["serve", "audit", "--since", "yesterday"])
    assert "write 30m, 12h or 7d" in capsys.readouterr().err


def test_status_says_in_sentences_what_is_not_as_it_should_be() -> None:
    refusal = Refusal(release=release(3), entry=3, at=BEGIN, reason="it died", again=Again.NEVER)
    drift = ColumnDrift(column="age", rows=900, index=0.5, index_limit=0.25)
    state = State(
        "heart@champion",
        memory=Memory(refused=(refusal,)),
        promoted=Promoted(release(3), 3),
        serving=Serving(release(2), Moment(BEGIN, 0.0), settled=False),
        former=release(1),
        away_since=Moment(BEGIN, 0.0),
    )
    assert sentences_of(view_of(state, (drift,), "scan: no reference")) == (
        "heart@champion: version 2 is on probation: version 1 stays loaded",
        "heart@champion: the registry names version 3, which is not served",
        "heart@champion: version 3 was refused: it died",
        "heart@champion: the registry has not answered since 1970-01-12 13:46:40Z",
        "heart@champion: age has drifted: PSI 0.50",
        "heart@champion: drift is not watched: scan: no reference",
    )
    coming = State("heart@champion", coming=Coming(release(4), Stage.LOADING, Moment(BEGIN, 0.0)))
    assert sentences_of(view_of(coming)) == ("heart@champion: version 4 is coming: loading",)
    settled = State("heart@champion", serving=Serving(release(2), Moment(BEGIN, 0.0), settled=True))
    assert sentences_of(view_of(settled)) == ()


def test_all_servers_of_one_version_submit_one_run_and_of_another_version_another() -> None:
    assert retrain_key("heart", release(1)) == retrain_key("heart", release(1, days_ago=3))
    assert (
        len({retrain_key("heart", release(1)), retrain_key("heart", release(2)), retrain_key("lung", release(1))}) == 3
    )
