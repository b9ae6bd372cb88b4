"""A simulation is the live machine over many partners: the same bits, whoever works, wherever it was cut."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.client.shards import Shard, open_shard
from aimass.client.tasks.heart import task
from aimass.proto.errors import AimassError, BadInput, Conflict, OutOfSpace, Refused, Unavailable
from aimass.proto.plan import PlanDraft, decode_plan, plan_digest
from aimass.proto.sharding import Split, manifest_of
from aimass.proto.storage import FileBlobs
from aimass.proto.task import first_model
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json
from aimass.server.flower.driver import driver as flower
from aimass.server.simulate import simulate
from aimass.server.simulation.begin import check_same, completed
from aimass.server.simulation.crew import Alone, Processes
from aimass.server.simulation.folder import Committed, Folder
from aimass.server.simulation.shell import first
from aimass.server.simulation.site import InFolder
from tests.support.simulations import Cut, CutCrew, begun, finished, heart_draft, shards_of

PARTNERS = 8
SAMPLED = "quorum = 2\nsample = 3\nspare = 1"
ADAM = 'steps = 2\noptimizer = "adam"\nkeep_optimizer = true'
KRUM = '[[stages]]\ndriver = "averaging"\noptions = { rounds = 2, rule = "krum", tolerated = 1 }'
TOP = '[compress]\nsparsify = "top-k"\none_in = 8\nquantise = "int8"\n'
MASK = '\n[compress]\nsparsify = "random-mask"\none_in = 4\n'
SECURE = "[secure]\nmin_cohort = 3\nmax_weight = 200\ncolluders = 0.0\n"


def by(driver: str, draft: PlanDraft) -> PlanDraft:
    """The same, trained by another driver."""
    stages = [
        msgspec.structs.replace(stage, driver=driver) if stage.driver == "averaging" else stage
        for stage in draft.stages
    ]
    return msgspec.structs.replace(draft, stages=tuple(stages))


SCAFFOLD = by("scaffold", heart_draft(train='steps = 2\nweight = "one"', cohort=SAMPLED))
FEDNOVA = by("fednova", heart_draft(train="epochs = 1"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = Split(rule="dirichlet", argument="1.0", partners=PARTNERS, seed=2, smallest=10)
    return shards_of(tmp_path_factory.mktemp("simulated") / "shards", "heart", split)


def opened(shards: Path) -> list[Shard]:
    made = []
    for place in sorted(path for path in shards.iterdir() if path.is_dir()):
        with (place / "heart.parquet").open("rb") as file:
            made.append(open_shard(task.schema, manifest_of(shards, place.name), [file])[0])
    return made


@pytest.mark.parametrize(
    "draft",
    [
        heart_draft(),
        heart_draft(cohort=SAMPLED),
        heart_draft(train=ADAM),
        heart_draft(KRUM, cohort="quorum = 5"),
        SCAFFOLD,
        FEDNOVA,
        heart_draft(TOP, cohort=SAMPLED),
        heart_draft(KRUM + MASK, cohort="quorum = 5"),
        by("fednova", heart_draft(MASK, train="epochs = 1")),
    ],
    ids=["all", "sampled", "adam", "krum", "scaffold", "fednova", "top-k", "krum-mask", "fednova-mask"],
)
def test_it_ends_in_the_bits_of_the_plain_loop_in_memory(tmp_path: Path, shards: Path, draft: PlanDraft) -> None:
    folder = begun(tmp_path / "run", draft, shards)
    run = finished(folder)
    assert run.state == "finished", run.reason
    blobs = FileBlobs(tmp_path / "blobs")
    blobs.put([first_model(task, draft.seed)])
    plain = simulate(folder.plan(), task, opened(shards), blobs)
    assert run.model == plain.model
    evaluated = [step for step in folder.committed() if step.kind == "evaluate"]
    assert [step.metrics for step in evaluated] == [
        {name: metric.total / metric.weight for name, metric in one.metrics.items()} for one in plain.evaluations
    ]


def test_the_number_of_processes_changes_no_bit_and_a_killed_one_is_told(tmp_path: Path, shards: Path) -> None:
    draft = heart_draft(train=ADAM, rounds=2)
    alone = finished(begun(tmp_path / "alone", draft, shards))
    crew = Processes(InFolder(tmp_path / "two"), 2)
    folder = begun(tmp_path / "two", draft, shards)
    killed: list[int] = []

    def kill(step: Committed) -> None:
        if not killed:
            killed.extend(pid for pool in crew._pools for pid in (pool._processes or {}))
            os.kill(killed[0], signal.SIGKILL)

    with pytest.raises(Unavailable, match="resume"):
        finished(folder, crew, kill)
    assert len(killed) == 2
    assert finished(folder, Processes(InFolder(folder.path), 2)).model == alone.model
    assert [step.metrics for step in folder.committed()] == [
        step.metrics for step in Folder(tmp_path / "alone").committed()
    ]


@pytest.mark.parametrize("draft", [heart_draft(train=ADAM, cohort=SAMPLED), SCAFFOLD], ids=["adam", "scaffold"])
def test_wherever_it_is_cut_it_goes_on_to_the_same_bits_and_tells_each_step_once(
    tmp_path: Path, shards: Path, draft: PlanDraft
) -> None:
    whole = begun(tmp_path / "whole", draft, shards)
    model = finished(whole).model
    folder = begun(tmp_path / "cut", draft, shards)
    cuts = 0
    while True:
        try:
            run = finished(folder, CutCrew(Alone(InFolder(folder.path)), 9 + cuts % 3))
            break
        except Cut:
            cuts += 1
    assert cuts >= 3
    assert run.model == model
    told, once = ([(step.index, step.metrics) for step in held.committed()] for held in (folder, whole))
    assert told == once


def test_a_step_that_was_told_and_not_stored_is_told_once(tmp_path: Path, shards: Path) -> None:
    folder = begun(tmp_path / "run", heart_draft(rounds=1), shards)

    def cut(step: Committed) -> None:
        raise Cut

    with pytest.raises(Cut):
        finished(folder, after=cut)
    (line,) = folder.committed()
    folder.tell(msgspec.structs.replace(line, index=1))
    with (folder.path / "rounds.jsonl").open("ab") as file:
        file.write(b'{"index":1,"ki')
    assert finished(folder).state == "finished"
    assert [step.index for step in folder.committed()] == [0, 1, 2]


def test_kill_9_in_the_middle_and_resume_from_the_command_line(tmp_path: Path, shards: Path) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    command = [sys.executable, "-m", "aimass.proto.commands", "simulate"]
    first = [*command, str(plan), "--shards", str(shards), "--out", str(tmp_path / "out"), "--workers", "1"]
    process = subprocess.Popen(first, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    rounds = tmp_path / "out" / "rounds.jsonl"
    until = time.monotonic() + 120
    while not (rounds.is_file() and rounds.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < until
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    resume = [*command, "--resume", "--out", str(tmp_path / "out"), "--workers", "1", "--json"]
    done = subprocess.run(resume, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert (told["state"], told["rounds"], told["partners"]) == ("finished", 20, PARTNERS)
    assert told["model"] == finished(begun(tmp_path / "whole", heart_draft(rounds=20), shards)).model
    assert {line["metric"] for line in told["metrics"]} == {"accuracy", "auc", "loss"}


PLAN = """
name = "simulated"
task = "heart"
data_schema = "heart/1"
seed = 5
[train]
batch_size = 16
learning_rate = 0.05
steps = 3
[cohort]
quorum = 2
[[stages]]
driver = "statistics"
[[stages]]
driver = "averaging"
options = { rounds = 20 }
"""


def test_disk_and_memory_hold_nothing_of_steps_that_are_done(tmp_path: Path, shards: Path) -> None:
    folder = begun(tmp_path / "run", heart_draft(train=ADAM, rounds=4), shards)
    run = finished(folder)
    assert set(folder.blobs.digests()) == {run.plan.model, run.model, run.model_before}
    assert not (folder.path / "spool").exists()
    assert len(list((folder.path / "states").iterdir())) == PARTNERS
    assert folder.export(run.model).read_bytes() == bytes(folder.blobs.open(run.model))


def weights(folder: Folder, digest: str) -> np.ndarray:
    arrays = Blob(folder.blobs.open(digest)).arrays()
    return np.concatenate([array.reshape(-1) for _, array in sorted(arrays.items()) if array.dtype == np.float32])


@pytest.mark.parametrize(
    ("more", "both"),
    [(SECURE, ""), (f'{SECURE}groups = 2\nrule = "mean"\n', ""), (SECURE, MASK)],
    ids=["one", "circles", "mask"],
)
def test_secure_sums_round_as_live_ones_and_repeat(tmp_path: Path, shards: Path, more: str, both: str) -> None:
    plain, first, second = (
        begun(tmp_path / name, heart_draft((more if name != "plain" else "") + both, cohort="quorum = 6"), shards)
        for name in ("plain", "first", "second")
    )
    run, plainly = finished(first), finished(plain)
    assert run.state == "finished", run.reason
    assert run.model == finished(second).model != plainly.model
    np.testing.assert_allclose(weights(first, run.model), weights(plain, plainly.model), atol=2e-3)


def test_noise_of_privacy_never_repeats(tmp_path: Path, shards: Path) -> None:
    private = 'steps = 2\nweight = "one"'
    more = "[privacy]\nnoise_multiplier = 1.0\nclip = 1.0\nsampling_rate = 0.2\ndivisor = 20\ndelta = 1e-4\n"
    models = [
        finished(begun(tmp_path / name, heart_draft(more, train=private, rounds=1), shards)).model for name in "ab"
    ]
    assert models[0] != models[1]


def test_noise_inside_a_sum_goes_through_the_lanes(tmp_path: Path, shards: Path) -> None:
    noise = "[secure.noise]\nmultiplier = 0.5\nclip = 1.0\nmembers = 8\ndelta = 1e-3\n"
    more = "[secure]\nmin_cohort = 6\ncolluders = 0.0\nbits = 20\n" + noise
    draft = heart_draft(more, train='steps = 1\nweight = "one"', cohort="quorum = 6", rounds=1)
    runs = [finished(begun(tmp_path / name, draft, shards)) for name in "ab"]
    assert {run.state for run in runs} == {"finished"}, runs[0].reason
    assert runs[0].model != runs[1].model


def test_a_partner_that_fails_is_counted_out_and_too_few_fail_the_run(tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=4, seed=1))
    (shards / "p0002" / "heart.parquet").write_bytes(b"nothing")
    folder = begun(tmp_path / "run", heart_draft(rounds=1, cohort="quorum = 3\nexclude_after = 2"), shards)
    run = finished(folder)
    assert run.state == "finished", run.reason
    told = list(folder.committed())
    assert [step.counted for step in told] == [3, 3, 3]
    assert [list(step.failed) for step in told[:2]] == [["p0002"], ["p0002"]]
    assert told[0].failed["p0002"].startswith("rows.unreadable")
    assert list(run.excluded) == ["p0002"]
    (shards / "p0003" / "heart.parquet").write_bytes(b"nothing")
    assert "2 of 3" in finished(begun(tmp_path / "few", heart_draft(cohort="quorum = 3"), shards)).reason


def test_the_gate_stands_in_the_way(tmp_path: Path, shards: Path) -> None:
    plan = completed(heart_draft(rounds=1), FileBlobs(tmp_path / "blobs"))
    policy = (
        'plain_sums = true\n[schemas]\n"heart/1" = "heart"\n[release]\nmetrics = ["auc"]\nfigures = ["auc"]\n'
        f'[[tasks]]\nname = "heart"\ndigest = "{plan.task.digest}"\n'
    )
    folder = begun(tmp_path / "run", heart_draft(rounds=1), shards, policy)
    assert finished(folder).state == "finished"
    *_, last = folder.committed()
    assert set(last.metrics) == {"auc"}
    assert all(set(figures) == {"auc"} for figures in last.figures.values())
    with pytest.raises(Refused) as refused:
        begun(tmp_path / "no", heart_draft(), shards, policy + "[bounds]\nlearning_rate = 0.01\n")
    assert refused.value.code == "policy.learning_rate"
    small = begun(tmp_path / "norm", heart_draft(rounds=1), shards, policy + "[bounds]\nnorm = 1e-9\n")
    assert "contribution.norm" in finished(small).reason


@pytest.mark.parametrize(
    ("cohort", "error", "code"),
    [
        ("quorum = 9", BadInput, "plan.cohort"),
        ('partners = ["p0001", "nobody"]', BadInput, "plan.cohort"),
        ("sample = 3\nweights = { nobody = 2.0 }", BadInput, "plan.weights"),
    ],
)
def test_a_plan_that_these_partners_cannot_fill_is_refused(
    tmp_path: Path, shards: Path, cohort: str, error: type[AimassError], code: str
) -> None:
    with pytest.raises(error) as refused:
        begun(tmp_path / "run", heart_draft(cohort=cohort), shards)
    assert refused.value.code == code
    assert not Folder(tmp_path / "run").begun


def test_a_driver_that_waits_for_a_program_is_refused(
    tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listening = dict.fromkeys(("statistics", "averaging"), flower)
    monkeypatch.setattr("aimass.server.simulation.begin.InstalledDrivers", lambda: listening)
    with pytest.raises(BadInput) as refused:
        begun(tmp_path / "run", heart_draft(), shards)
    assert refused.value.code == "simulation.driver"


def test_partners_whose_keys_are_one_are_refused(tmp_path: Path) -> None:
    plan = completed(heart_draft(), FileBlobs(tmp_path / "blobs"))
    with pytest.raises(BadInput) as refused:
        first("0" * 32, plan, {"p0001": "north", "p0002": "north"})
    assert refused.value.code == "run.participant_key"


def test_a_folder_goes_on_with_what_it_was_begun_with_alone(tmp_path: Path) -> None:
    shards = shards_of(tmp_path / "shards", "heart", Split(rule="iid", partners=2, seed=1))
    folder = begun(tmp_path / "run", heart_draft(), shards)
    check_same(folder, completed(heart_draft(), folder.blobs))
    with pytest.raises(Conflict, match="another plan"):
        check_same(folder, completed(heart_draft(rounds=4), folder.blobs))
    with pytest.raises(Conflict, match="stands"):
        begun(tmp_path / "run", heart_draft(), shards)
    (shards / "partition.json").write_text((shards / "partition.json").read_text() + " ")
    with pytest.raises(Conflict, match="shards"):
        check_same(folder, None)


def test_a_simulation_of_a_release_that_knew_fewer_fields_goes_on(tmp_path: Path, shards: Path) -> None:
    folder = begun(tmp_path / "run", heart_draft(), shards)
    plan = folder.plan()
    older = canonical_json({name: value for name, value in msgspec.to_builtins(plan).items() if name != "early_stop"})
    assert decode_plan(older) == plan
    (folder.path / "plan.json").write_bytes(older)
    setup = msgspec.structs.replace(folder.setup(), plan=plan_digest(older))
    (folder.path / "setup.json").write_bytes(canonical_json(setup))
    check_same(folder, completed(heart_draft(), folder.blobs))
    with pytest.raises(Conflict, match="another plan"):
        check_same(folder, completed(heart_draft(rounds=4), folder.blobs))


def test_a_full_disk_is_nobodys_failure(tmp_path: Path, shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = begun(tmp_path / "run", heart_draft(rounds=1), shards)

    def full(*_: object, **__: object) -> str:
        raise OutOfSpace("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("aimass.server.simulation.partner.write_parts", full)
        with pytest.raises(OutOfSpace, match="resume"):
            finished(folder)
    assert finished(folder).state == "finished"
