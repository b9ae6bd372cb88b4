"""A federation in one folder, made with the same commands that people type; every process is owned and ended here."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from aimass.proto.sharding import load_shards
from aimass.proto.task import locate
from scripts.demos.warm import Warm


class CommandFailed(Exception):
    """A command of the federation ended with an error; the message is what it printed."""


SERVICE_HOST: Final = "127.0.0.2"
"""Where services other than the server listen: no two members of a federation have one host."""


def free_port(host: str = "127.0.0.1") -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class House:
    """Root, server, operator, scientist and partners, each in a folder of its own below `folder`."""

    def __init__(
        self, folder: Path, host: str = "127.0.0.1", python: str = sys.executable, *, keep_all: bool = False
    ) -> None:
        """With `keep_all` the server keeps every model of a run."""
        self.folder, self.host, self._keep_all = folder, host, keep_all
        self._aimass = [python, "-m", "aimass.proto.commands"]
        self._python = python
        self._warm: Warm | None = None
        self.port, self.enrol_port = free_port(), free_port()
        self._processes: dict[str, subprocess.Popen[str]] = {}

    def __enter__(self) -> House:
        self.folder.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in list(self._processes):
            self.stop(name)
        if self._warm is not None:
            self._warm.close()

    # ---------------------------------------------------------------- commands

    def run(self, *arguments: str) -> Any:
        """Run `aimass ARGUMENTS --json` in the folder and return what it printed."""
        if self._warm is None:
            self._warm = Warm(self._python, _environment())
        done = self._warm.run((*arguments, "--json"), self.folder, _environment())
        if done.returncode != 0:
            raise CommandFailed(f"aimass {' '.join(arguments)}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout.strip() else None

    def start(self, name: str, *arguments: str, launcher: Sequence[str] = ()) -> None:
        """Start a long-lived command and wait for its line `ready`; its log goes to `name.log`."""
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [*(launcher or self._aimass), *arguments],
                cwd=self.folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=_environment(),
                start_new_session=True,
            )
        self._processes[name] = process
        if process.stdout is None or not process.stdout.readline().startswith("ready"):
            tail = (self.folder / f"{name}.log").read_text().strip().splitlines()[-1:]
            raise CommandFailed(f"{name} did not start: {' '.join(tail)}")

    def life(
        self, name: str, launcher: Sequence[str], *arguments: str, over: threading.Event, rest_s: float
    ) -> int | None:
        """Start a command that is expected to die, and wait for that; its exit code, or None where it lives on.

        One that lives for so long after its work is over is stopped: it has nothing left to do.
        """
        with (self.folder / f"{name}.log").open("a") as log:
            process = subprocess.Popen(
                [*launcher, *arguments], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=log, text=True,
                env=_environment(), start_new_session=True,
            )  # fmt: skip
        while True:
            rests = over.is_set()
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.wait(rest_s if rests else 0.5)
            if rests:
                process.terminate()
                process.wait(20)
                return None

    def kill(self, name: str) -> None:
        """kill -9: no chance to clean up."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()

    def stop(self, name: str) -> None:
        """SIGTERM, and SIGKILL for one that does not end."""
        process = self._processes.pop(name, None)
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()

    def pid(self, name: str) -> int:
        """The process id of a long-lived command."""
        return self._processes[name].pid

    def alive(self) -> list[str]:
        """Names of processes that run."""
        return [name for name, process in self._processes.items() if process.poll() is None]

    # ---------------------------------------------------------------- the federation

    def found(self, partners: Sequence[str], people: Sequence[tuple[str, str]] = (("scientist", "scientist"),)) -> None:
        """Make the root, enrol server and operator by file, start the server, enrol everybody else over the wire."""
        self.run("pki", "init", "root", "--name", "demo federation")
        self._token("server", "server", "--host", self.host)
        self._token("operator", "operator")
        address, enrol = f"{self.host}:{self.port}", f"{self.host}:{self.enrol_port}"
        self.run("server", "init", "server", "--token", "server.token", "--listen", address, "--enrol-listen", enrol)
        if self._keep_all:
            settings = self.folder / "server" / "server.toml"
            settings.write_text(settings.read_text().replace("\nmodels = 5 ", "\nmodels = 0 "))
        self._client("operator")
        self.run("client", "enroll", "--dir", "operator", "--token", "operator.token", "--offline")
        self._sign("server/server.request", "operator/operator.request")
        self.run("server", "admit", "bundle.json", "--dir", "server")
        self.run("client", "enroll", "--dir", "operator", "--bundle", "bundle.json")
        self.start_server()
        self.enrol([(name, "partner") for name in partners] + list(people))

    def enrol(self, newcomers: Sequence[tuple[str, str]]) -> None:
        """Tokens, requests over the enrolment port, one signature for all, certificates back over the wire."""
        waiting = []
        for name, role in newcomers:
            self._token(name, role, *(("--host", SERVICE_HOST) if role == "service" else ()))
            self._client(name)
            command = [*self._aimass, "client", "enroll", "--dir", name, "--token", f"{name}.token"]
            log = (self.folder / f"{name}-enroll.log").open("w")
            waiting.append(
                subprocess.Popen(command, cwd=self.folder, stdout=log, stderr=log, text=True, env=_environment())
            )
            log.close()
        try:
            self._await_requests(len(newcomers))
            self._sign("requests.json")
            self.run("server", "admit", "bundle.json", "--as", "operator")
            for process in waiting:
                if process.wait(30) != 0:
                    raise CommandFailed(f"enrolment failed: {' '.join(str(part) for part in process.args)}")  # type: ignore[union-attr]
        finally:
            for process in waiting:
                if process.poll() is None:
                    process.kill()
                    process.wait()

    def _await_requests(self, count: int) -> None:
        for _ in range(200):
            if self.run("server", "enrolments", "--as", "operator", "--out", "requests.json")["requests"] >= count:
                return
        raise CommandFailed("the enrolment requests did not arrive")

    def _token(self, name: str, role: str, *more: str) -> None:
        self.run("pki", "token", name, "--role", role, "--root", "root", "--out", f"{name}.token", *more)

    def _client(self, name: str) -> None:
        address, enrol = f"{self.host}:{self.port}", f"{self.host}:{self.enrol_port}"
        self.run("client", "init", name, "--name", name, "--server", address, "--enrol", enrol)

    def _sign(self, *requests: str) -> None:
        self.run("pki", "roster", "sign", "--root", "root", "--requests", *requests, "--out", "bundle.json", "--yes")

    def start_server(self) -> None:
        """Start the server and wait until it is ready."""
        self.start("server", "server", "start", "--dir", "server")

    def start_partner(self, name: str) -> None:
        """Start a partner's daemon and wait until it is connected."""
        self.start(name, "client", "start", "--dir", name)

    def reach(self, name: str, port: int) -> None:
        """Have a partner's next start look for the server behind another port of the same host: a proxy's."""
        path = self.folder / name / "client.toml"
        path.write_text(re.sub(r'(?m)^server = "[^"]*"', f'server = "{self.host}:{port}"', path.read_text()))

    def permit(self, name: str, task: str, digest: str, figures: Sequence[str] = (), *, secure: bool = False) -> None:
        """Edit a partner's policy as its owner would: one task, released figures, and plain sums, or none but secure
        ones."""
        path = self.folder / name / "policy.toml"
        text, sums = path.read_text(), "secure_aggregation" if secure else "plain_sums"
        text = text.replace(f"\n{sums} = false", f"\n{sums} = true")
        text = text.replace("figures = []", f"figures = {json.dumps(list(figures))}")
        path.write_text(f'{text}\n[[tasks]]\nname = "{task}"\ndigest = "{digest}"\n')

    def deal(self, data: str, task: str, split: str, partners: Sequence[str]) -> None:
        """Found the house with partners that hold a public set, dealt by a rule; each permits the task."""
        self.run(
            "data", "partition", data, "--task", task, "--split", split, "--seed", "4",
            "--partners", str(len(partners)), "--out", "shards",
        )  # fmt: skip
        self.hold(data, task, self.folder / "shards")

    def hold(self, data: str, task: str, shards: Path) -> None:
        """Found the house with a partner for each part of a folder of shards, its files named as `data`; each permits
        the task."""
        held = load_shards(shards)
        self.found([shard.partner for shard in held.shards])
        for shard in held.shards:
            self.permit(shard.partner, task, locate(task).digest)
            self.run(
                "client", "data", "add", data, "--dir", shard.partner, "--schema", held.data_schema, "--uri",
                str(shards / shard.partner / f"{data}.parquet"), "--format", "parquet",
                "--salt", shard.salt, "--participant", shard.participant, "--held-out", str(held.held_out),
            )  # fmt: skip

    def clear(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("AIMASS_")} | {
        "PYTHONUNBUFFERED": "1"
    }
