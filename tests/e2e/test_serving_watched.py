"""A night of `aimass serve` with real workers: good and bad versions, rows that drift, a registry that goes."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from aimass.proto.commands import main
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.model_manifest import ModelManifest, Reference
from aimass.proto.objects import open_objects
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import Part, SmokeInputs
from aimass.proto.registry.layout import report_key
from aimass.proto.statistics import Histogram, NumberCounts
from aimass.proto.task import locate
from aimass.proto.tensors import encode_numpy
from aimass.proto.values import canonical_json
from aimass.server.serving.watching.audit_log import read_audit
from tests.support.installed import install_task, see_too
from tests.support.registries import put_alias, put_version, trusting, version_of

pytestmark = pytest.mark.slow
_TASK = '''
import numpy as np
from aimass.proto.manifest import Category, Number, Schema
from aimass.proto.servable import TensorSpec
from aimass.proto.task import Task


class Ages:
    """Says "yes" with the chance age / 120, and from the call that its parameters name on what is no number."""

    inputs = (TensorSpec("age", "FP64", (-1, 1)),)
    outputs = (TensorSpec("probabilities", "FP64", (-1, 2), labels=("no", "yes")), TensorSpec("label", "BYTES", (-1,)))

    def __init__(self, calls):
        self.calls = calls

    def infer(self, tensors):
        self.calls -= 1
        chance = tensors["age"].reshape(-1) / (120.0 if self.calls > 0 else 0.0)
        labels = np.array([b"no", b"yes"], dtype=object)[(chance > 0.5).astype(int)]
        return {"probabilities": np.stack([1 - chance, chance], axis=1), "label": labels}


class Task(Task):
    schema = Schema(
        name="ages/1",
        columns=(Number(name="age", minimum=0, maximum=120),),
        label=Category(name="ill", values=("no", "yes")),
    )

    def first(self, seed):
        raise NotImplementedError

    def servable(self, parameters, device="cpu"):
        return Ages(int(parameters.numpy("calls")[0]))


task = Task()
'''
_SCHEMA = Schema(
    name="ages/1",
    columns=(Number(name="age", minimum=0, maximum=120),),
    label=Category(name="ill", values=("no", "yes")),
)
_SETTINGS = """
[watch]
examine_s = 1.0
[watch.registry]
every_s = 0.2
[watch.rollout]
canary = [0.5]
canary_s = 1.0
canary_requests = 20
watch_s = 2.0
[watch.drift]
least_rows = 100
window_s = 1.0
"""
_GOOD = 1_000_000
_SMOKE = canonical_json(SmokeInputs(columns={"age": (30.0, 90.0)}, expected=((0.75, 0.25), (0.25, 0.75))))


class Night:
    """A registry in a folder, and a server of its champion that is asked all the time."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.entries, self.digests = folder, 0, dict[int, str]()
        self.python = install_task(folder / "installed", "ages", {"__init__.py": _TASK})
        with pytest.MonkeyPatch.context() as patch:
            see_too(folder / "installed", patch)
            self.task = locate("ages").digest
        self.store = open_objects(f"file://{folder / 'registry'}")
        (folder / "trust.json").write_bytes(canonical_json(trusting("olga")))
        (folder / "serve.toml").write_text(_SETTINGS)
        self.ages, self.shift = np.random.default_rng(3), 0.0
        self.answers: list[tuple[int, int]] = []
        self.wrong: list[object] = []

    def publish(self, number: int, calls: int = _GOOD, task: str = "", manifest: bytes = b"") -> None:
        data = encode_numpy({"calls": np.array([calls, number], np.float64)})
        version = msgspec.structs.replace(
            version_of("ages", number, data),
            task=TaskRef(name="ages", digest=task or self.task),
            schema=_SCHEMA,
            smoke=self._report(_SMOKE),
            manifest=self._report(manifest) if manifest else None,
        )
        self.digests[number] = put_version(self.store, version, parameters=data)

    def _report(self, data: bytes) -> Part:
        part = Part(digest=hashlib.sha256(data).hexdigest(), bytes=len(data))
        self.store.put(report_key("ages", part.digest), data)
        return part

    def promote(self, number: int) -> None:
        self.entries += 1
        put_alias(self.store, "ages", "champion", self.entries, number, self.digests[number], "olga")

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """The port of a server, until the block ends."""
        command = [
            *(str(self.python), "-m", "aimass.proto.commands", "serve", "ages", "--registry", self.store.url),
            *(
                "--trust",
                "trust.json",
                "--http",
                "127.0.0.1:0",
                "--cache",
                "cache",
                "--settings",
                "serve.toml",
                "--json",
            ),
        ]
        with (
            (self.folder / "log").open("a") as log,
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=self.folder) as process,
        ):
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, (self.folder / "log").read_text()[-3000:]
            yield json.loads(line)["http_port"]
            process.terminate()
            assert process.wait(30) == 0, (self.folder / "log").read_text()[-3000:]

    @contextlib.contextmanager
    def asked(self, port: int) -> Iterator[None]:
        """Somebody asks again and again; every answer is kept, and what is none."""
        over = threading.Event()
        asking = threading.Thread(target=self._ask, args=(port, over))
        asking.start()
        try:
            yield
        finally:
            over.set()
            asking.join()

    def _ask(self, port: int, over: threading.Event) -> None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            while not over.wait(0.004):
                age = float(np.clip(self.ages.normal(60 + self.shift, 10), 0, 120))
                connection.request("POST", "/predict", json.dumps({"age": age}))
                response = connection.getresponse()
                said = json.loads(response.read())
                if response.status != 200 or abs(said["probabilities"]["yes"] - age / 120) > 1e-9:
                    self.wrong.append((response.status, said))
                else:
                    self.answers.append((response.status, said["version"]))

    def until(self, holds: Callable[[], object]) -> None:
        waiting = threading.Event()
        for _ in range(300):
            if holds():
                return
            waiting.wait(0.1)
        raise AssertionError("\n".join(self.told())[-3000:])

    def told(self, *kinds: str) -> list[str]:
        folder = self.folder / "cache"
        return [line.text for line in read_audit(folder) if line.kind in kinds or not kinds] if folder.is_dir() else []


def _manifest() -> bytes:
    """How the training rows were spread."""
    counts = np.histogram(np.random.default_rng(1).normal(60, 10, 3_000), 24, (0, 120))[0].astype(float)
    spread = NumberCounts(column="age", minimum=0.0, maximum=120.0, counts=tuple(counts.tolist()), missing=0.0)
    fields: dict[str, Any] = dict.fromkeys(("plan", "first_model", "parameters"), "0" * 64)
    return canonical_json(
        ModelManifest(
            **fields,
            run_id="a" * 32,
            run_name="study",
            task=TaskRef(name="ages", digest="0" * 64),
            data_schema="ages/1",
            schema="",
            bytes=1,
            step=None,
            round=1,
            transcript_head="",
            finished_at=0.0,
            metrics={},
            reference=Reference(histogram=Histogram(numbers=(spread,), categories=()), partners=2),
        )
    )


def test_a_night_in_which_two_versions_go_wrong_rows_drift_and_the_registry_goes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    night = Night(tmp_path)
    night.publish(1)
    night.promote(1)
    with night.serving() as port, night.asked(port):
        night.publish(2, manifest=_manifest())
        night.promote(2)
        night.until(lambda: "version 2 is good" in "".join(night.told("good")))
        night.publish(3, task="0" * 64)
        night.promote(3)
        night.until(lambda: night.told("refused"))
        night.publish(4, calls=30)
        night.promote(4)
        night.until(lambda: len(night.told("refused", "taken_back")) == 2)
        night.shift = 25.0
        night.until(lambda: night.told("input_drift"))
        (tmp_path / "registry").rename(tmp_path / "elsewhere")
        night.until(lambda: night.told("registry_away"))
    with night.serving() as port, night.asked(port):
        night.until(lambda: night.answers[-1][1] == 2)
    assert night.wrong == []
    assert {version for _, version in night.answers} <= {1, 2, 4}
    assert len(night.answers) > 500
    assert main(["serve", "audit", "ages", "--cache", str(tmp_path / "cache")]) == 0
    story = capsys.readouterr().out
    assert "version 2 is good" in story
    assert "version 3 is refused" in story
    assert "it failed" in story
    assert "live rows have drifted: age" in story
    assert "version 2 is on this disk" in story
    assert main(["serve", "audit", "--cache", str(tmp_path / "cache"), "--kind", "refused", "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])["version"] == 3
