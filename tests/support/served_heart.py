"""The first model of the task `heart`, published in a folder and served by a real `aimass serve`."""

from __future__ import annotations

import contextlib
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aimass.proto.objects import open_objects
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import Part
from aimass.proto.task import first_model, load, locate
from aimass.proto.values import canonical_json
from tests.support.registries import put_alias, put_version, trusting, version_of

TASK = load(locate("heart"))
FIRST = first_model(TASK, 1)
CARD = "# heart, version 1\n"


def publish_heart(folder: Path, digest: str = "", name: str = "heart") -> tuple[str, Path]:
    """A registry in `folder` whose champion is the model; its URL and the trust file. `digest` is the task's."""
    store = open_objects(f"file://{folder / 'registry'}")
    task = load(locate(name))
    first = first_model(task, 1)
    version = msgspec.structs.replace(
        version_of(name, 1, first),
        task=TaskRef(name=name, digest=digest or locate(name).digest),
        schema=task.schema,
        parameters=Part(digest=hashlib.sha256(first).hexdigest(), bytes=len(first)),
        card=CARD,
    )
    put_alias(store, name, "champion", 1, 1, put_version(store, version, "olga", first), "olga")
    trust = folder / "trust.json"
    trust.write_bytes(canonical_json(trusting("olga")))
    trust.chmod(0o600)
    return store.url, trust


@contextlib.contextmanager
def served_heart(folder: Path, *more: str, name: str = "heart") -> Iterator[int]:
    """The HTTP port of a server of the champion, until the block ends; another task's first model by its `name`."""
    url, trust = publish_heart(folder, name=name)
    command = [
        sys.executable, "-m", "aimass.proto.commands", "serve", name, "--registry", url, "--trust", str(trust),
        "--http", "127.0.0.1:0", "--cache", str(folder / "serving"), "--json", *more,
    ]  # fmt: skip
    with (
        (folder / "serve.log").open("a") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "serve.log").read_text()[-3000:]
        try:
            yield json.loads(line)["http_port"]
        finally:
            process.terminate()
            assert process.wait(30) == 0, (folder / "serve.log").read_text()[-3000:]
