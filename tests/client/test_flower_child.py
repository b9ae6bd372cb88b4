"""Flower apps in a real, confined child: what they reach, what they cannot, and what becomes of those that misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import RecordDict

from aimass.client.child import Child, ChildDied, ChildFailed, start_child
from aimass.client.flower_source import AppSource
from aimass.proto.apps import read_app
from aimass.proto.confinement import enforceable
from aimass.proto.contribution import Contribution, decode_contribution
from aimass.proto.errors import LimitExceeded
from aimass.proto.manifest import ShardManifest
from aimass.proto.tensors import Blob
from tests.support.flower_node import app_folder, arrays, asked, decoded, flower_app, message_blobs, order_for

CODE = """
import os, signal, socket, subprocess, sys, threading, time
from pathlib import Path

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def reply(message, arrays=None, **metrics):
    content = RecordDict({"metrics": MetricRecord(metrics)})
    if arrays is not None:
        content["arrays"] = arrays
    return Message(content, reply_to=message)


def refused(action):
    try:
        action()
    except OSError:
        return 1
    return 0


@app.train()
def train(message, context):
    rows = len(Path(context.node_config["path"]).read_text().splitlines())
    calls = context.state["calls"]["n"] + 1 if "calls" in context.state else 1
    context.state["calls"] = MetricRecord({"n": calls})
    Path("scratch.txt").write_text("here")
    return reply(message, message.content["arrays"], **{"num-examples": rows, "calls": calls})


@app.query("reach")
def reach(message, context):
    others = Path(context.node_config["path"]).parent.parent
    return reply(
        message,
        secret=refused((others / "identity.key").read_text),
        other_data=refused((others / "other" / "rows.csv").read_text),
        write_data=refused(lambda: Path(context.node_config["path"]).write_text("")),
        write_app=refused(lambda: Path(__file__).write_text("")),
        socket=refused(lambda: socket.socket()),
        fork=refused(os.fork),
        process=refused(lambda: subprocess.run(["/bin/true"])),
        signal=refused(lambda: os.kill(os.getppid(), 0)),
        environment=len([key for key in os.environ if "SECRET" in key]),
        folder=int(os.getcwd() == os.environ["TMPDIR"]),
    )


@app.query("print")
def loud(message, context):
    megabyte = "Mr Miller " * 100_000
    for n in range(message.content["config"]["megabytes"]):
        print(megabyte, file=sys.stderr if n % 2 else sys.stdout)
    return reply(message, done=1)


@app.query("hang")
def hang(message, context):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=lambda: time.sleep(3600)).start()
    while True:
        try:
            time.sleep(3600)
        except BaseException:
            pass


@app.query("exit")
def leave(message, context):
    sys.exit("Mr Miller")  # query.exit


@app.query("crash")
def crash(message, context):
    os.abort()


@app.evaluate()
def evaluate(message, context):
    raise RuntimeError("Mr Miller has 212 points")  # evaluate


@app.train("two")
def two(message, context):
    content = RecordDict({"a": ArrayRecord([np.zeros(1)]), "b": ArrayRecord([np.zeros(1)])})
    content["metrics"] = MetricRecord({"num-examples": 1})
    return Message(content, reply_to=message)


@app.query("huge")
def huge(message, context):
    return reply(message, ArrayRecord([np.zeros(1 << 20)]))
"""


class Home:
    """A partner's folder with an app and data, and how a child is asked there."""

    def __init__(self, folder: Path, code: str = CODE) -> None:
        self.folder, self.app = folder, app_folder(folder / "apps" / "case", code)
        for name in ("data", "other", "scratch"):
            (folder / name).mkdir()
        self.data = folder / "data" / "rows.csv"
        self.data.write_text("1\n2\n3\n")
        (folder / "other" / "rows.csv").write_text("9\n")
        (folder / "identity.key").write_text("secret")
        (folder / "state").touch()

    async def start(
        self,
        source: AppSource | None = None,
        *,
        secret_sums: bool = False,
        uris: tuple[str, ...] = ("data/rows.csv",),
    ) -> Child:
        found = AppSource("case", read_app(self.app).digest, flower_app(self.app, secret_sums=secret_sums))
        return await start_child(
            source or found, self.manifest(uris), self.folder, self.folder / "identity.key", self.folder / "scratch"
        )

    def manifest(self, uris: tuple[str, ...]) -> ShardManifest:
        return ShardManifest(
            name="case", data_schema="case/1", uris=uris, format="files", participant="north", salt="00" * 32,
            node_config={"path": str(self.data)},
        )  # fmt: skip

    async def ask(self, child: Child, message_type: str, content: RecordDict, most: int = 1 << 20) -> Contribution:
        """The contribution; the new state is kept."""
        paths = [self.folder / "model", self.folder / "records"]
        for path, data in zip(paths, message_blobs(message_type, content), strict=True):
            path.write_bytes(data)
        made = await child.work(order_for(message_type), paths, self.folder / "state", most)
        (self.folder / "state").write_bytes(made.state)
        return decode_contribution(Blob(made.contribution))


def scenario(home: Home, work: Callable[[Child], Awaitable[Any]], **options: Any) -> Any:
    async def whole() -> Any:
        child = await home.start(**options)
        try:
            return await work(child)
        finally:
            await child.stop()

    return asyncio.run(whole())


class Warm:
    """One child, for the tests that leave it alive."""

    def __init__(self, home: Home, runner: asyncio.Runner) -> None:
        self.home, self._runner = home, runner
        self.child = runner.run(home.start(uris=("data",)))

    def ask(self, message_type: str, content: RecordDict) -> Contribution:
        return self._runner.run(self.home.ask(self.child, message_type, content))

    def stop(self) -> None:
        self._runner.run(self.child.stop())


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warm]:
    with asyncio.Runner() as runner:
        warm = Warm(Home(tmp_path_factory.mktemp("warm")), runner)
        yield warm
        warm.stop()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


ONES = arrays(w=np.ones(2, np.float32))


def test_an_app_repeats_itself_to_the_bit_in_another_child_and_its_state_outlives_both(home: Home) -> None:
    async def rounds(child: Child) -> list[bytes]:
        assert (child.opened.training_rows, child.opened.persons) == (0, 0)
        return [(await home.ask(child, "train", asked(ONES))).encode() for _ in "ab"]

    first = scenario(home, rounds)
    kept = [decoded(decode_contribution(Blob(data)))["metrics"]["calls"] for data in [*first, *scenario(home, rounds)]]
    assert kept == [1, 2, 3, 4]
    (home.folder / "state").write_bytes(b"")
    assert scenario(home, rounds) == first
    assert not list((home.folder / "scratch").iterdir())


def test_an_app_reaches_its_data_and_nothing_else(warm: Warm) -> None:
    found, levels = decoded(warm.ask("query.reach", asked())), set(warm.child.opened.confinement)
    assert levels == set(enforceable(warm.home.folder)), "as locked in as this machine can"
    open_to_it = {key for key, value in found["metrics"].items() if not value}
    assert "environment" in open_to_it
    if {"files", "calls"} <= levels:
        assert open_to_it == {"environment"}


def test_a_folder_of_the_data_set_may_be_read_and_the_arrays_come_back_as_they_are(warm: Warm) -> None:
    made = decoded(warm.ask("train", asked(ONES)))
    assert made["metrics"]["num-examples"] == 3
    assert made["arrays"] == ONES


def test_an_app_that_raises_is_told_by_code_and_its_own_place_and_goes_on(
    warm: Warm, caplog: pytest.LogCaptureFixture
) -> None:
    for message_type, code in (("evaluate", "child.RuntimeError"), ("query.exit", "child.SystemExit")):
        with pytest.raises(ChildFailed) as caught:
            warm.ask(message_type, asked())
        assert caught.value.code == code
        raised = next(n for n, line in enumerate(CODE.splitlines(), 1) if line.endswith(f"# {message_type}"))
        assert f"app/client_app.py:{raised}" in str(caught.value)
        assert "Miller" not in str(caught.value) + caplog.text
        assert "Miller" in (warm.home.folder / "child.log").read_text()
    warm.ask("train", asked(ONES))


@pytest.mark.parametrize("message_type", ["query.unheard", "train.unheard", "evaluate.unheard", "query"])
def test_a_message_that_the_app_has_no_function_for_is_told_so(warm: Warm, message_type: str) -> None:
    with pytest.raises(ChildFailed) as caught:
        warm.ask(message_type, asked())
    assert caught.value.code == "flower.unregistered"


def test_what_an_app_prints_goes_nowhere_however_much_it_is(home: Home, capfd: pytest.CaptureFixture[str]) -> None:
    """A gigabyte."""

    async def loud(child: Child) -> RecordDict:
        return decoded(await home.ask(child, "query.print", asked(megabytes=1000)))

    assert scenario(home, loud)["metrics"]["done"] == 1
    printed = capfd.readouterr()
    assert "Miller" not in printed.out + printed.err
    assert sum(path.stat().st_size for path in home.folder.rglob("*") if path.is_file()) < 1 << 20


def test_a_reply_that_is_larger_than_may_leave_is_refused(warm: Warm) -> None:
    with pytest.raises(LimitExceeded):
        warm.ask("query.huge", asked())


def test_two_array_records_leave_as_they_are_where_sums_are_plain(warm: Warm) -> None:
    assert set(decoded(warm.ask("train.two", asked(ONES)))) == {"a", "b", "metrics"}


def test_two_array_records_are_refused_where_sums_are_secret_and_one_is_an_update(home: Home) -> None:
    async def secret(child: Child) -> None:
        with pytest.raises(ChildFailed) as caught:
            await home.ask(child, "train.two", asked(ONES))
        assert caught.value.code == "flower.array_records"
        made = await home.ask(child, "train", asked(ONES))
        assert set(made.groups) == {"update"}
        assert made.groups["update"].weight == 3

    scenario(home, secret, secret_sums=True)


def test_an_app_that_hangs_is_ended_when_nobody_waits_for_it_any_more(home: Home) -> None:
    async def work(child: Child) -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await home.ask(child, "query.hang", asked())
        assert not child.alive

    scenario(home, work)


def test_an_app_that_crashes_is_told_by_its_signal(home: Home) -> None:
    async def work(child: Child) -> None:
        with pytest.raises(ChildDied, match="SIGABRT"):
            await home.ask(child, "query.crash", asked())

    scenario(home, work)


def test_an_app_whose_files_changed_after_it_was_approved_is_never_loaded(home: Home) -> None:
    source = AppSource("case", read_app(home.app).digest, flower_app(home.app))
    (home.app / "client_app.py").write_text("app = 1\n")
    with pytest.raises(ChildFailed) as caught:
        asyncio.run(home.start(source))
    assert caught.value.code == "app.changed"


@pytest.mark.parametrize(
    ("code", "fault"),
    [
        ("app = 1\n", "flower.reference"),
        ("other = 1\n", "flower.reference"),
        ("import nothing_here\n", "child.ModuleNotFoundError"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_told_at_once(tmp_path: Path, code: str, fault: str) -> None:
    with pytest.raises(ChildFailed) as caught:
        asyncio.run(Home(tmp_path, code).start())
    assert caught.value.code == fault
