"""The published clients of the Open Inference Protocol against `aimass serve` with a model that gives back its inputs.

Each client lives in an environment of its own, made once: it brings generated messages that have the names of ours, and
packages that nothing else here needs.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.proto.objects import open_objects
from aimass.proto.plan import TaskRef
from aimass.proto.task import locate
from aimass.proto.tensors import encode_numpy
from aimass.proto.values import canonical_json
from tests.support.installed import install_task, see_too
from tests.support.registries import put_alias, put_version, trusting, version_of

pytestmark = pytest.mark.slow
CLIENTS = Path(__file__).parents[1] / "v2_clients"
HOME = Path(__file__).parents[2] / ".venv-v2-clients"
TASK = '''
import numpy as np
from aimass.proto.manifest import Number, Schema
from aimass.proto.servable import DTYPES, TensorSpec, rows_of
from aimass.proto.task import Task


class Identity:
    """Gives back its inputs. Not every client knows BF16: where it is left out, the answer holds zeros."""

    inputs = tuple(TensorSpec(name.lower(), name, (-1, -1), optional=name == "BF16") for name in DTYPES)
    outputs = tuple(TensorSpec(name.lower(), name, (-1, -1)) for name in DTYPES)

    def infer(self, tensors):
        return {"bf16": np.zeros((rows_of(tensors), 1), DTYPES["BF16"]), **{n: a.copy() for n, a in tensors.items()}}


class Echo(Task):
    schema = Schema(
        name="echo/1",
        columns=(Number(name="x", minimum=0, maximum=1),),
        label=Number(name="y", minimum=0, maximum=1),
    )

    def first(self, seed):
        raise NotImplementedError

    def servable(self, parameters, device="cpu"):
        return Identity()


task = Echo()
'''


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """HOST:PORT over HTTP and over gRPC of a server whose one model is the identity."""
    folder = tmp_path_factory.mktemp("identity")
    python = install_task(folder / "installed", "identity", {"__init__.py": TASK})
    with pytest.MonkeyPatch.context() as patch:
        see_too(folder / "installed", patch)
        digest = locate("identity").digest
    parameters = encode_numpy({"none": np.zeros(1, np.float32)})
    registry = f"file://{folder / 'registry'}"
    store = open_objects(registry)
    version = msgspec.structs.replace(
        version_of("identity", 1, parameters), task=TaskRef(name="identity", digest=digest)
    )
    put_alias(store, "identity", "champion", 1, 1, put_version(store, version, parameters=parameters), "olga")
    trust = folder / "trust.json"
    trust.write_bytes(canonical_json(trusting("olga")))
    command = [
        *(str(python), "-m", "aimass.proto.commands", "serve", "identity", "--registry", registry),
        *("--trust", str(trust), "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"),
        *("--cache", str(folder / "cache"), "--json"),
    ]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, cwd=folder) as process,
    ):
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, (folder / "log").read_text()[-3000:]
        started = json.loads(line)
        yield f"127.0.0.1:{started['http_port']}", f"127.0.0.1:{started['grpc_port']}"
        process.terminate()
        assert process.wait(30) == 0, (folder / "log").read_text()[-3000:]


def python_with(package: str) -> Path:
    """An interpreter with a client, which is installed where it is not yet; where it cannot be, nothing was tested, and
    the test fails: a run that left it out would look like one that passed."""
    home = HOME / hashlib.sha256(package.encode()).hexdigest()[:8]
    python = home / "bin" / "python"
    if not (home / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", package]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=240)
        if done.returncode:
            pytest.fail(
                f"{package} cannot be installed here, so nobody knows of it: {done.stderr[-500:]}", pytrace=False
            )
        (home / "installed").touch()
    return python


@pytest.mark.parametrize(
    ("script", "package"),
    [("triton.py", "tritonclient[http,grpc]==2.73.0"), ("kserve_client.py", "kserve==0.21.0")],
)
def test_a_published_client_finds_all_that_the_protocol_promises(
    server: tuple[str, str], script: str, package: str
) -> None:
    done = subprocess.run(
        [str(python_with(package)), str(CLIENTS / script), *server],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "no_proxy": "*"},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(found) > 8
    assert [one for one in found if one["why"]] == []
