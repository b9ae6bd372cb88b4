"""Servers of models beside ours, each in an environment of its own below `.venv-peers`: MLServer, which speaks the same
protocol, and mosec, whose front is written in Rust. Both run the network in PyTorch, with one thread and one worker.

MLServer infers in its front process, which is its fastest way for a small model (its workers cost it a hop more).
mosec's worker is given a quicker JSON than its own, and batches where that is faster. PyTorch is the one that is
installed here, seen by both.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import site
import subprocess
import sys
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from safetensors.numpy import save_file

from scripts.benches import dense_task
from scripts.demos.house import free_port

__all__ = ["PEERS", "Peer", "Served", "install", "served", "started"]

_ROOT: Final = Path(__file__).parents[2] / ".venv-peers"
_START_S: Final = 60.0
_NETWORK: Final = """
import torch
from safetensors.torch import load_file

torch.set_num_threads(1)


def network():
    relu, linear = torch.nn.ReLU, torch.nn.Linear
    layers = torch.nn.Sequential(linear(13, 64), relu(), linear(64, 64), relu(), linear(64, 1))
    layers.load_state_dict({name.removeprefix("layers."): one for name, one in load_file("dense.safetensors").items()})
    return layers.eval()
"""
_MLSERVER: Final = """
import torch
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from network import network


class Dense(MLModel):
    async def load(self):
        self.network = network()
        return True

    async def predict(self, payload):
        rows = NumpyCodec.decode_input(payload.inputs[0])
        with torch.inference_mode():
            predictions = self.network(torch.from_numpy(rows)).numpy()
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("prediction", predictions)])
"""
_MOSEC: Final = """
import msgspec
import numpy as np
import torch
from mosec import Server, Worker
from network import network

BATCH = {batch}


class Dense(Worker):
    def __init__(self):
        self.network = network()

    def deserialize(self, data):
        rows = msgspec.json.decode(data)["inputs"][0]
        return np.asarray(rows["data"], np.float32).reshape(rows["shape"])

    def serialize(self, data):
        output = {{"name": "prediction", "datatype": "FP32", "shape": data.shape, "data": data.ravel().tolist()}}
        return msgspec.json.encode({{"model_name": "dense", "outputs": [output]}})

    def forward(self, data):
        rows = data if BATCH == 1 else [len(one) for one in data]
        with torch.inference_mode():
            predictions = self.network(torch.from_numpy(data if BATCH == 1 else np.concatenate(data))).numpy()
        return predictions if BATCH == 1 else np.split(predictions, np.cumsum(rows)[:-1])


if __name__ == "__main__":
    server = Server()
    server.append_worker(Dense, num=1, max_batch_size=BATCH, max_wait_time=1)
    server.run()
"""


@dataclasses.dataclass(frozen=True, slots=True)
class Peer:
    """A server in an environment of its own: the files that it is given, its command after the environment's `bin`
    and where it infers. `{port}` stands for its port, `{admin}` for another."""

    name: str
    requirement: str
    files: Mapping[str, str]
    command: Sequence[str]
    path: str

    @property
    def environment(self) -> Path:
        """Where it is installed."""
        return _ROOT / self.requirement.partition("==")[0]


_SETTINGS: Final = {"debug": False, "parallel_workers": 0, "host": "127.0.0.1"}
_MODEL: Final = json.dumps({"name": "dense", "implementation": "dense.Dense"})


def _mosec(name: str, batch: int) -> Peer:
    files = {"server.py": _MOSEC.format(batch=batch)}
    command = ("python", "server.py", "--address", "127.0.0.1", "--port", "{port}")
    return Peer(name, "mosec==0.9.8", files, command, "/inference")


PEERS: Final = (
    Peer(
        "MLServer", "mlserver==1.7.1",
        {"dense.py": _MLSERVER, "model-settings.json": _MODEL, "settings.json": json.dumps(_SETTINGS)},
        ("mlserver", "start", "."), "/v2/models/dense/infer",
    ),
    _mosec("mosec", 1),
    _mosec("mosec, batching", 16),
)  # fmt: skip


def install() -> None:
    """Make the peers' environments, once."""
    for peer in PEERS:
        if not (peer.environment / "installed").exists():
            sys.stderr.write(f"installing {peer.requirement} into {_ROOT.name}\n")
            venv.create(peer.environment, with_pip=True)
            pip = [str(peer.environment / "bin" / "pip"), "install", "--quiet", peer.requirement, "numpy"]
            subprocess.run(pip, check=True, stderr=subprocess.DEVNULL)
            place = next(peer.environment.glob("lib/python*/site-packages"))
            below = "\n".join(f"import site; site.addsitedir({path!r})" for path in site.getsitepackages())
            (place / "zz_below.pth").write_text(below)
            (peer.environment / "installed").touch()


@dataclasses.dataclass(frozen=True, slots=True)
class Served:
    """A server that answers: where, which process, and seconds from its start to its first answer."""

    url: str
    pid: int
    cold_s: float


@contextlib.contextmanager
def served(peer: Peer, folder: Path, state: Mapping[str, np.ndarray]) -> Iterator[Served]:
    """A peer that serves a network of these parameters."""
    folder.mkdir(parents=True)
    for name, text in {"network.py": _NETWORK, **peer.files}.items():
        (folder / name).write_text(text)
    save_file(dict(state), folder / "dense.safetensors")
    ports = {"port": str(free_port()), "admin": str(free_port()), "metrics": str(free_port())}
    command = [part.format(**ports) for part in peer.command]
    environment = os.environ | {
        "MLSERVER_HTTP_PORT": ports["port"], "MLSERVER_GRPC_PORT": ports["admin"],
        "MLSERVER_METRICS_PORT": ports["metrics"], "OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder),
    }  # fmt: skip
    url = f"http://127.0.0.1:{ports['port']}{peer.path}"
    with (folder / "log").open("w") as log, started(
        [str(peer.environment / "bin" / command[0]), *command[1:]], url, folder, environment, log.fileno()
    ) as one:  # fmt: skip
        yield one


@contextlib.contextmanager
def started(
    command: Sequence[str], url: str, folder: Path, environment: Mapping[str, str], log: int
) -> Iterator[Served]:
    """A server of its own process group, from its first answer until the context ends."""
    began = time.perf_counter()
    process = subprocess.Popen(
        command, cwd=folder, env=dict(environment), stdout=log, stderr=log, start_new_session=True
    )
    try:
        while not answers(url):
            if process.poll() is not None or time.perf_counter() > began + _START_S:
                raise RuntimeError(f"{command[0]} does not answer: its log is in {folder}")
            time.sleep(0.01)
        yield Served(url, process.pid, time.perf_counter() - began)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 15)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()


def answers(url: str) -> bool:
    """Whether a server infers."""
    asked = urllib.request.Request(
        url, dense_task.body(dense_task.some_rows(1)), {"Content-Type": "application/json"}, method="POST"
    )
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False
