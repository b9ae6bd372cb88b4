"""Flower apps at a server: real workers with the real flwr, and partners whose half is a function here."""

from __future__ import annotations

import asyncio
import os
import random
import threading
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import ArrayRecord, MetricRecord, RecordDict

from aimass.proto.contribution import Contribution, Group
from aimass.proto.errors import BadInput
from aimass.proto.flower import private
from aimass.proto.views import RunState
from aimass.server import runs
from aimass.server.flower.desk import FlowerDesk
from aimass.server.flower.driver import Flower
from aimass.server.flower.journal import Exchange, Past, State
from aimass.server.live import Live
from tests.support.engines import Outbox
from tests.support.flower import FOUR
from tests.support.flower_apps import FEDAVG, LocalGrid, adding, app_of, serving_app


def run(scenario: Coroutine[Any, Any, None], seconds: float = 60.0) -> None:
    asyncio.run(asyncio.wait_for(scenario, seconds))


def state_of(run: runs.Run) -> State:
    from aimass.server import run_machine
    from aimass.server.flower.driver import driver

    state = run_machine.driver_state(run, driver)
    assert isinstance(state, State)
    return state


def ended_with(pasts: list[Past]) -> Callable[[runs.Run], bool]:
    """Whether a run has ended; meanwhile its exchanges come into `pasts`, since they go with the end."""

    def ended(run: runs.Run) -> bool:
        if run.driver and (known := state_of(run).past):
            pasts[:] = known
        return run.state.final

    return ended


def workers() -> list[int]:
    """Pids of the workers of this process."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            told = (each / "cmdline").read_bytes(), (each / "stat").read_text().rpartition(")")[2].split()[1]
        except OSError:
            continue
        if b"aimass.server.flower.worker" in told[0] and int(told[1]) == os.getpid():
            found.append(int(each.name))
    return found


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "strategy", ["FedAvg", "FedAdam", pytest.param("FedYogi", marks=SLOW), pytest.param("FedMedian", marks=SLOW)]
)
def test_a_strategy_comes_to_the_result_that_flwr_alone_comes_to(tmp_path: Path, strategy: str) -> None:
    from flwr.serverapp import strategy as strategies

    random.seed(7)
    private.identify(1, 1)
    oracle = getattr(strategies, strategy)().start(LocalGrid(), ArrayRecord([np.zeros(3)]), num_rounds=2)

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, FEDAVG, config={"strategy": strategy}))
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            assert not list((tmp_path / "apps").rglob("*.pyc"))  # what is installed stays as it is
            (model,) = apps.model(run_id).values()
            (wanted,) = oracle.arrays.to_numpy_ndarrays()
            np.testing.assert_allclose(model, wanted, rtol=1e-12)
            assert [kind for _, kind, _ in apps.steps] == ["train", "evaluate", "train", "evaluate"]
            await until(lambda: not workers())

    run(scenario())


OWN_LOOP = """
import random
import numpy as np
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.serverapp import ServerApp
from flwr.serverapp.strategy import FedAdam

app = ServerApp()

@app.main()
def main(grid, context):
    strategy, arrays = FedAdam(fraction_train=0.5), ArrayRecord([np.random.rand(3)])
    strategy.current_arrays = {key: array.numpy() for key, array in arrays.items()}
    for number in range(4):
        nodes = random.sample(sorted(grid.get_node_ids()), 2)
        content = RecordDict({"arrays": arrays})
        replies = list(grid.send_and_receive([Message(content, node, "train") for node in nodes]))
        arrays, _ = strategy.aggregate_train(number, replies)
    context.state["final"] = arrays
"""
"""A loop without `start`: random choices, and an optimiser whose moments are in memory alone."""


def test_a_run_whose_server_was_killed_between_rounds_ends_in_the_same_bits(tmp_path: Path) -> None:
    async def whole(folder: Path, stops: tuple[int, ...]) -> tuple[dict[str, Any], list[Any]]:
        app = app_of(folder, OWN_LOOP)
        steps: list[Any] = []
        run_id = ""
        for past in (*stops, None):

            def until(run: runs.Run, past: int | None = past) -> bool:
                return run.state.final if past is None else len(state_of(run).past) == past

            async with serving_app(folder) as apps:
                run_id = run_id or await apps.submit(app, rounds=4)
                ended = await apps.serve(run_id, until=until)
                steps += apps.steps
                model = apps.model(run_id)
                if past is None:
                    assert ended.state is RunState.FINISHED, ended.reason
        return model, steps

    async def scenario() -> None:
        undisturbed, steps = await whole(tmp_path / "a", ())
        killed, again = await whole(tmp_path / "b", (1, 3))
        assert again == steps
        assert len({partners for _, _, partners in steps}) > 1
        for name, array in undisturbed.items():
            np.testing.assert_array_equal(array, killed[name])

    run(scenario())


@pytest.mark.parametrize("returns", [True, False])
def test_an_app_that_goes_on_waits_for_those_it_knew_and_for_half_a_minute_at_most(
    tmp_path: Path, returns: bool
) -> None:
    """Each round draws two of four by chance: who is late to come back need not be one of them."""

    class Late(Outbox):
        looks = 0

        def connected(self) -> frozenset[str]:
            self.looks += 1
            return frozenset(FOUR if returns and self.looks > 50 else FOUR[1:])

    async def scenario() -> None:
        first, second = (app_of(tmp_path / name, OWN_LOOP) for name in "ab")
        async with serving_app(tmp_path / "a") as apps:
            await apps.serve(await apps.submit(first, rounds=4))
            undisturbed = apps.steps
        async with serving_app(tmp_path / "b") as apps:
            run_id = await apps.submit(second, rounds=4)
            await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 1)
        outbox = Late(FOUR)
        async with serving_app(tmp_path / "b", outbox=outbox) as again:
            serving = asyncio.create_task(again.serve(run_id))
            while not serving.done():
                again.bench.clock.advance(0.1)
                await asyncio.sleep(0.002)
            assert (await serving).state is RunState.FINISHED
        assert (apps.steps + again.steps == undisturbed) == returns
        assert any("east" in partners for _, _, partners in undisturbed[2:])
        assert 50 < outbox.looks < 100 if returns else outbox.looks > 350

    run(scenario())


def test_a_fault_of_the_server_while_an_app_waits_for_its_answer_ends_the_run(tmp_path: Path) -> None:
    class Broken(Outbox):
        def connected(self) -> frozenset[str]:
            raise ZeroDivisionError

    async def scenario() -> None:
        app = app_of(tmp_path, OWN_LOOP)
        async with serving_app(tmp_path, outbox=Broken(FOUR)) as apps:
            ended = await apps.serve(await apps.submit(app, rounds=4))
            assert ended.state is RunState.FAILED
            assert ended.reason.startswith("flower.desk: ")
            assert "ZeroDivisionError" in ended.reason

    run(scenario())


def test_an_app_that_does_not_repeat_itself_fails_by_name(tmp_path: Path) -> None:
    code = OWN_LOOP.replace("np.random.rand(3)", "np.random.default_rng().random(3)")

    async def scenario() -> None:
        app = app_of(tmp_path, code)
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app, rounds=4)
            await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 2)
        async with serving_app(tmp_path) as apps:
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FAILED
            assert ended.reason.startswith("flower.not_repeated: the Flower app did not repeat itself")
            assert "message 1 to" in ended.reason

    run(scenario())


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("raise ValueError('secret words')", "flower.ValueError: the Flower app failed; got adder_server.py:"),
        pytest.param("raise SystemExit(3)", "flower.SystemExit: the Flower app failed; got adder_server", marks=SLOW),
    ],
)
def test_an_app_that_fails_ends_its_run_by_code_and_place(tmp_path: Path, line: str, told: str) -> None:
    code = OWN_LOOP.replace('    context.state["final"] = arrays', f"    {line}")

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, code), rounds=4)
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FAILED
            assert told in ended.reason
            assert "secret words" not in ended.reason
            log = (tmp_path / "flower" / run_id / "app.log").read_text()
            assert ("secret words" in log) == ("secret" in line)

    run(scenario())


def test_what_an_app_prints_is_kept_short(tmp_path: Path) -> None:
    code = OWN_LOOP.replace(
        '    context.state["final"] = arrays', "    for _ in range(200): print('x' * 500_000)\n    print('last')"
    )

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, code), rounds=4)
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            logs = list((tmp_path / "flower" / run_id).glob("app.log*"))
            assert sum(log.stat().st_size for log in logs) <= 2 << 20
            assert (tmp_path / "flower" / run_id / "app.log").read_text().endswith("last\n")

    run(scenario())


WAITING = OWN_LOOP.replace(
    "    for number in range(4):",
    "    import time\n    for number in range(4):\n        if number == 1: time.sleep(600)",
)


def test_stop_and_pause_kill_an_app_that_hangs_and_a_resumed_one_runs_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, WAITING), rounds=4)
            await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 1)
            assert len(workers()) == 1
            assert int(Path(f"/proc/{workers()[0]}/oom_score_adj").read_text()) >= 500  # it goes before the server
            await apps.bench.engine.change(run_id, "pause", "olga")
            await until(lambda: not workers())
            await apps.bench.engine.change(run_id, "resume", "olga")
            await until(lambda: len(workers()) == 1)
            await apps.bench.engine.change(run_id, "stop", "olga")
            await until(lambda: not workers())
            assert apps.bench.engine.live(run_id).row.run.state is RunState.STOPPED

    run(scenario())


async def until(holds: Any, seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not holds():  # noqa: ASYNC110  (processes and files tell nobody)
            await asyncio.sleep(0.02)


def test_an_app_waits_for_as_many_nodes_as_it_wants(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            apps.bench.outbox._partners = frozenset(FOUR[:2])
            run_id = await apps.submit(app_of(tmp_path, FEDAVG, config={"nodes": 3, "num-server-rounds": 1}))
            log = tmp_path / "flower" / run_id / "app.log"
            await until(lambda: log.is_file() and "Waiting for nodes to connect: 2 connected" in log.read_text())
            assert not apps.bench.engine.live(run_id).row.run.open
            apps.bench.outbox._partners = frozenset(FOUR[:3])
            pasts: list[Past] = []
            ended = await apps.serve(run_id, until=ended_with(pasts))
            assert ended.state is RunState.FINISHED, ended.reason
            assert set(apps.steps[0][2]) < set(FOUR[:3])  # flwr counted two when it chose how many, and drew from three
            seen = pasts[0].seen
            assert [each.nodes for each in seen] == [FOUR[:2], FOUR[:3]]

    run(scenario())


def test_a_partner_that_fails_is_an_error_to_the_app_and_the_round_goes_on(tmp_path: Path) -> None:
    def answer(name: str, kind: str, content: RecordDict) -> RecordDict:
        if name == "south" and kind == "evaluate":
            raise ValueError
        return adding(name, kind, content)

    async def scenario() -> None:
        async with serving_app(tmp_path, answer) as apps:
            run_id = await apps.submit(app_of(tmp_path, FEDAVG, config={"num-server-rounds": 1}))
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            log = (tmp_path / "flower" / run_id / "app.log").read_text()
            assert "aggregate_evaluate: Received 3 results and 1 failures" in log
            assert "child.ValueError: failed at app/client.py:1" in log
            # (1 10 + 2 20 + 4 40) / 70 = 3: of those that answered
            assert "'accuracy': 3.0" in log
            view = (await asyncio.to_thread(apps.bench.store.steps, run_id))[1]
            assert {name: metric.mean for name, metric in view.metrics.items()} == {"accuracy": 3.0}

    run(scenario())


def test_a_reply_that_is_none_is_refused_for_its_partner_alone(tmp_path: Path) -> None:
    def answer(name: str, kind: str, content: RecordDict) -> RecordDict:
        return adding(name, kind, content)

    async def scenario() -> None:
        async with serving_app(tmp_path, answer) as apps:
            run_id = await apps.submit(app_of(tmp_path, FEDAVG, config={"num-server-rounds": 1}))
            await apps.bench.until(run_id, lambda run: bool(run.open))
            group = Group(1.0, {"index": np.frombuffer(b'{"type":"","records":3}', np.uint8)})
            with pytest.raises(BadInput, match="index of records"):
                await apps.bench.send_bytes(run_id, "west", 0, Contribution({"reply": group}, {}, {}).encode())
            pasts: list[Past] = []
            ended = await apps.serve(run_id, until=ended_with(pasts))
            assert ended.state is RunState.FINISHED, ended.reason
            train = pasts[0]
            assert train.replies.keys() == set(FOUR[:3])
            assert train.failures["west"].startswith("value.")

    run(scenario())


def test_replies_stay_while_the_run_goes_on_and_go_with_its_end(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path, keep=1) as apps:
            run_id = await apps.submit(app_of(tmp_path, FEDAVG))
            run_ = await apps.serve(run_id, until=lambda run: len(state_of(run).past) == 3)
            replies = {digest for past in state_of(run_).past for digest in past.replies.values()}
            assert len(replies) >= 8
            assert replies <= set(apps.bench.blobs.digests())
            ended = await apps.serve(run_id)
            await until(lambda: set(apps.bench.blobs.digests()) == {ended.plan.model, ended.model})

    run(scenario())


PUSHING = """
import time
import numpy as np
from flwr.app import ArrayRecord, Message, RecordDict
from flwr.serverapp import ServerApp

app = ServerApp()

@app.main()
def main(grid, context):
    arrays = ArrayRecord([np.zeros(3)])
    nodes = sorted(grid.get_node_ids())
    first = grid.push_messages([Message(RecordDict({"arrays": arrays}), node, "train") for node in nodes[:2]])
    second = grid.push_messages([Message(RecordDict({"arrays": arrays}), node, "query.sizes") for node in nodes])
    replies, waiting = [], {*first, *second}
    while waiting:
        for reply in grid.pull_messages(sorted(waiting)):
            waiting.discard(reply.metadata.reply_to_message_id)
            replies.append(reply)
        time.sleep(0.01)
    assert [reply.metadata.message_type for reply in replies] == ["train"] * 2 + ["query.sizes"] * 4
    assert all(reply.has_content() for reply in replies)
    assert not grid.pull_messages(first)
"""


def test_messages_may_be_pushed_and_pulled(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            run_id = await apps.submit(app_of(tmp_path, PUSHING))
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            assert [kind for _, kind, _ in apps.steps] == ["train", "query"]

    run(scenario())


def test_what_an_app_asks_while_a_step_is_summed_is_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked_again, receive, ask = threading.Event(), Flower.receive, FlowerDesk._ask
    summing = tmp_path / "summing"

    def slow(self: Flower, *args: Any) -> State:
        summing.touch()
        assert asked_again.wait(30)
        return receive(self, *args)

    async def heard(self: FlowerDesk, live: Live, number: int, exchange: Exchange) -> None:
        if number == 1:
            asyncio.get_running_loop().call_later(0, asked_again.set)  # by then it has gone on as far as it goes
        await ask(self, live, number, exchange)

    monkeypatch.setattr(Flower, "receive", slow)
    monkeypatch.setattr(FlowerDesk, "_ask", heard)
    waiting = f"    while not pathlib.Path({str(summing)!r}).exists(): time.sleep(0.01)\n    second ="
    pushing = "import pathlib" + PUSHING.replace("    second =", waiting)

    async def scenario() -> None:
        async with serving_app(tmp_path) as apps:
            ended = await apps.serve(await apps.submit(app_of(tmp_path, pushing)))
            assert ended.state is RunState.FINISHED, ended.reason
            assert [kind for _, kind, _ in apps.steps] == ["train", "query"]

    run(scenario())


LEGACY = """
import numpy as np
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

def server_fn(context):
    strategy = FedAvg(initial_parameters=ndarrays_to_parameters([np.zeros(3)]), min_available_clients=4,
                      fraction_evaluate=0.0)
    config = ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    return ServerAppComponents(strategy=strategy, config=config)

app = ServerApp(server_fn=server_fn)
"""


def legacy(name: str, kind: str, content: RecordDict) -> RecordDict:
    """`adding` in the older records."""
    number = FOUR.index(name) + 1
    arrays = content["fitins.parameters"]
    assert kind == "train"
    reply = RecordDict()
    from flwr.app import Array, ConfigRecord

    made = {key: Array(np.asarray(array.numpy() + number)) for key, array in arrays.items()}
    reply["fitres.parameters"] = ArrayRecord(made)
    reply["fitres.num_examples"] = MetricRecord({"num_examples": 10 * number})
    reply["fitres.metrics"] = ConfigRecord()
    reply["fitres.status"] = ConfigRecord({"code": 0, "message": ""})
    return reply


def test_an_app_of_the_older_server_runs_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        app = app_of(tmp_path, LEGACY, config={"num-server-rounds": 3})
        async with serving_app(tmp_path, legacy) as apps:
            run_id = await apps.submit(app, rounds=3)
            await apps.serve(run_id, until=lambda run: state_of(run).trained == 2)
        async with serving_app(tmp_path, legacy) as apps:
            ended = await apps.serve(run_id)
            assert ended.state is RunState.FINISHED, ended.reason
            assert {name: array.tolist() for name, array in apps.model(run_id).items()} == {"0": [9.0, 9.0, 9.0]}
            assert state_of(ended) == State(model=state_of(ended).model, result=ended.model, rounds=3)

    run(scenario())
