"""Flower's deployment engine beside ours: the same bytes, two nodes, a client that returns the model unchanged, no TLS.

It runs in an environment of its own, `.venv-peers`, that `./scripts/bench NAME --peers` makes once.
"""

from __future__ import annotations

import itertools
import os
import re
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import Final

__all__ = ["flower_seconds", "install", "run_in_peers"]

_VERSION: Final = "flwr==1.41.0"
_HERE: Final = Path(__file__).parents[2] / ".venv-peers"
_PROJECT: Final = """[project]
name = "bulk"
version = "0.1.0"
description = "A model that comes back unchanged"
license = "Apache-2.0"
dependencies = []
[tool.flwr.app]
publisher = "bench"
[tool.flwr.app.components]
serverapp = "bulk.server:app"
clientapp = "bulk.client:app"
[tool.flwr.app.config]
size = 1000000
rounds = 2
"""
_SERVER: Final = """import time
import numpy as np
from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()

class Timed(FedAvg):
    def aggregate_train(self, server_round, replies):
        made = super().aggregate_train(server_round, replies)
        print(f"AGGREGATED {time.time()}", flush=True)
        return made

@app.main()
def main(grid: Grid, context: Context) -> None:
    elements = int(context.run_config["size"]) // 32
    chance = np.random.default_rng(0)  # not zeros: Flower sends equal parts once
    arrays = ArrayRecord([chance.random(elements, np.float32) for _ in range(8)])
    strategy = Timed(fraction_evaluate=0.0, min_train_nodes=2, min_available_nodes=2)
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["rounds"]))
"""
_CLIENT: Final = """from flwr.app import Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()

@app.train()
def train(msg: Message, context: Context) -> Message:
    metrics = MetricRecord({"num-examples": 1})
    return Message(content=RecordDict({"arrays": msg.content["arrays"], "metrics": metrics}), reply_to=msg)
"""


def install() -> None:
    """Make the peers' environment, once."""
    if not (_HERE / "bin" / "flwr").exists():
        sys.stderr.write(f"installing {_VERSION} into {_HERE.name}\n")
        venv.create(_HERE, with_pip=True)
        subprocess.run([_HERE / "bin" / "pip", "install", "--quiet", _VERSION], check=True, stderr=subprocess.DEVNULL)


def run_in_peers(script: Path, *arguments: str) -> str:
    """The last line that a script writes in the peers' environment."""
    command = [str(_HERE / "bin" / "python"), str(script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{script.name} failed:\n{done.stderr[-2000:]}")
    return done.stdout.strip().splitlines()[-1]


def flower_seconds(folder: Path, size: int, rounds: int) -> list[float]:
    """Seconds from aggregation to aggregation, without the first round."""
    app = folder / "app"
    for name, text in (("pyproject.toml", _PROJECT), ("bulk/server.py", _SERVER), ("bulk/client.py", _CLIENT)):
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(text)
    (app / "bulk" / "__init__.py").touch()
    ports = [_free_port() for _ in range(3)]
    home = folder / "home"
    home.mkdir()
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "local"\n[superlink.local]\naddress = "127.0.0.1:{ports[0]}"\ninsecure = true\n'
    )
    environment = os.environ | {"FLWR_HOME": str(home), "PATH": f"{_HERE / 'bin'}:{os.environ['PATH']}"}
    processes = []

    def start(name: str, *arguments: str) -> None:
        with (folder / f"{name}.log").open("w") as log:
            processes.append(
                subprocess.Popen(
                    [_HERE / "bin" / arguments[0], *arguments[1:]],
                    env=environment,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )

    try:
        start("link", "flower-superlink", "--insecure", "--port", str(ports[0]))
        _await_port(ports[0])
        for port in ports[1:]:
            start(
                f"node{port}", "flower-supernode", "--insecure", "--superlink", f"127.0.0.1:{ports[0]}",
                "--port", str(port),
            )  # fmt: skip
            _await_port(port)
        done = subprocess.run(
            [_HERE / "bin" / "flwr", "run", app, "local", "-c", f"size={size} rounds={rounds}", "--stream"],
            env=environment, capture_output=True, text=True, check=False, timeout=900,
        )  # fmt: skip
    finally:
        for process in processes:
            os.killpg(process.pid, 15)
            process.wait(30)
    logs = done.stdout + "".join(path.read_text() for path in folder.glob("*.log"))
    times = sorted({float(found) for found in re.findall(r"AGGREGATED ([0-9.]+)", logs)})
    if len(times) != rounds:
        raise RuntimeError(f"Flower's run did not finish:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return [after - before for before, after in itertools.pairwise(times)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_port(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError(f"nothing listens on port {port}")


if __name__ == "__main__":
    import tempfile

    install()
    with tempfile.TemporaryDirectory() as place:
        sys.stdout.write(f"{flower_seconds(Path(place), int(float(sys.argv[1]) * 1e6), int(sys.argv[2]))}\n")
