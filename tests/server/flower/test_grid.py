"""The Grid alone: what goes into one exchange, what comes back, over a carrier in memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from aimass.proto.errors import AimassError, BadInput, Refused
from aimass.proto.flower import private
from aimass.proto.flower.names import Array, ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from aimass.proto.flower.records import node_id_of, pack_reply, unpack
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.server.flower.grid import DurableGrid, Sent, grouped
from aimass.server.flower.journal import Exchange, State, Sum
from aimass.server.flower.outcome import Outcome
from aimass.server.flower.replay import Replay
from tests.support.flower import FOUR, M
from tests.support.flower_apps import adding


@pytest.fixture(autouse=True)
def identified() -> None:
    private.identify(1, private.SERVER_NODE)


@dataclasses.dataclass
class Memory:
    """Does every exchange at once; `failures` fail."""

    secure: bool = False
    failures: dict[str, str] = dataclasses.field(default_factory=dict)
    kept: dict[str, bytes] = dataclasses.field(default_factory=dict)
    asked: list[Exchange] = dataclasses.field(default_factory=list)
    done: bool = True
    polls: int = 0

    def who(self) -> tuple[str, ...]:
        self.polls += 1
        return FOUR

    def keep(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        self.kept[digest] = b"".join(parts)

    def ask(self, number: int, exchange: Exchange) -> None:
        assert number == len(self.asked)
        assert set(exchange.blobs) <= set(self.kept)
        self.asked.append(exchange)

    def fetch(self, number: int, *, wait: bool) -> Outcome | None:
        exchange, replies = self.asked[number], {}
        if not self.done and not wait:
            return None
        for name in exchange.partners:
            if name not in self.failures:
                blobs = (Blob(self.kept[digest]) for digest in exchange.inputs_of(name))
                replies[name] = Blob(pack_reply(adding(name, *unpack(*blobs)[:2])).encode())
        failed = {name: why for name, why in self.failures.items() if name in exchange.partners}
        if not self.secure:
            return Outcome(replies, failed)
        model = Blob(encode_numpy({"0": np.full(3, 2.5), "b": np.array(7)}))
        trained = exchange.kind is StepKind.TRAIN
        total = Sum(node="north", model="1" * 64 if trained else "", weight=90.0, metrics={"accuracy": 0.5})
        return Outcome({}, failed, total, model if trained else None)


def grid_of(memory: Memory, state: State | None = None) -> DurableGrid:
    replay = Replay(state or State(model=M[0]))
    return DurableGrid(memory, replay, FOUR, private.described_run(5), secure=memory.secure)


def content(value: float = 0.0, **config: Any) -> RecordDict:
    arrays = ArrayRecord({"b": Array(np.array(1)), "0": Array(np.full(3, value))})
    return RecordDict({"arrays": arrays, "config": ConfigRecord(config)})


def messages(names: Sequence[str] = FOUR, kind: str = "train", **config: Any) -> list[Message]:
    shared = content(**config)
    return [Message(shared, node_id_of(name), kind) for name in names]


def test_equal_messages_of_a_call_are_one_exchange_and_their_blobs_go_up_once() -> None:
    memory = Memory()
    replies = grid_of(memory).send_and_receive(messages(), timeout=9.0)
    (asked,) = memory.asked
    assert (asked.kind, asked.round, asked.partners, asked.addressed) == (StepKind.TRAIN, 1, FOUR, {})
    assert asked.timeout_s == 9.0
    assert len(memory.kept) == 2
    assert [reply.metadata.src_node_id for reply in replies] == [node_id_of(name) for name in FOUR]
    assert [reply.content["arrays"]["0"].numpy().tolist() for reply in replies] == [
        [n] * 3 for n in (1.0, 2.0, 3.0, 4.0)
    ]
    assert all(reply.metadata.reply_to_message_id == f"0-{name}" for reply, name in zip(replies, FOUR, strict=True))


def test_one_content_under_two_types_is_two_messages() -> None:
    memory, shared = Memory(), content()
    kinds = dict(zip(FOUR, ("train", "train.foo", "train", "train.bar"), strict=True))
    grid_of(memory).push_messages([Message(shared, node_id_of(name), kind) for name, kind in kinds.items()])
    (asked,) = memory.asked
    told = {name: unpack(*(Blob(memory.kept[digest]) for digest in asked.inputs_of(name)))[0] for name in FOUR}
    assert told == kinds


def test_one_content_in_two_groups_is_two_messages_that_know_their_group() -> None:
    memory, shared = Memory(), content()
    groups = dict(zip(FOUR, ("1", "2", "1", ""), strict=True))
    grid = grid_of(memory)
    grid.push_messages([grid.create_message(shared, "train", node_id_of(name), each) for name, each in groups.items()])
    (asked,) = memory.asked
    told = {name: unpack(*(Blob(memory.kept[digest]) for digest in asked.inputs_of(name))).group_id for name in FOUR}
    assert told == groups


def test_who_gets_something_else_is_addressed() -> None:
    memory = Memory()
    own = Message(content(5.0), node_id_of("west"), "train")
    replies = grid_of(memory).send_and_receive([*messages(FOUR[:3]), own])
    (asked,) = memory.asked
    assert asked.addressed.keys() == {"west"}
    assert replies[3].content["arrays"]["0"].numpy().tolist() == [9.0] * 3


def test_a_model_that_was_sent_last_is_not_sent_again() -> None:
    memory, sent = Memory(), list[str]()
    grid, keep = grid_of(memory), memory.keep

    def noted(digest: str, parts: Sequence[bytes | memoryview]) -> None:
        sent.append(digest)
        keep(digest, parts)

    memory.keep = noted  # type: ignore[method-assign]
    for number in range(3):
        grid.send_and_receive(messages(number=number))
    models = [digest for digest in sent if digest == memory.asked[0].inputs[0]]
    assert len(models) == 1
    assert len(sent) == 4


def test_an_error_has_the_reason_and_flowers_code() -> None:
    memory = Memory(failures={"north": "child.ValueError at app/client.py:3", "west": "step.late: too late"})
    replies = grid_of(memory).send_and_receive(messages())
    assert [reply.has_error() for reply in replies] == [False, True, False, True]
    assert (replies[1].error.code, replies[1].error.reason) == (2, "child.ValueError at app/client.py:3")
    assert replies[3].error.code == 4


def test_pushed_messages_are_pulled_once_and_when_they_are_there() -> None:
    memory = Memory(done=False)
    grid = grid_of(memory)
    ids = grid.push_messages(messages())
    assert grid.pull_messages(ids) == []
    memory.done = True
    assert [reply.metadata.reply_to_message_id for reply in grid.pull_messages(ids[:2])] == ids[:2]
    assert len(grid.pull_messages(ids)) == 2
    assert grid.pull_messages([*ids, "unknown"]) == []


@pytest.mark.parametrize("timeout", [-1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused_and_an_endless_one_is_no_limit(timeout: float) -> None:
    memory = Memory()
    with pytest.raises(BadInput, match="a timeout is a number of seconds above 0") as caught:
        grid_of(memory).send_and_receive(messages(), timeout=timeout)
    assert caught.value.code == "flower.timeout"
    assert not memory.asked
    endless = [Message(content(), node_id_of(name), "train", ttl=1e9) for name in FOUR]
    grid_of(memory).send_and_receive(endless, timeout=float("inf"))
    assert [asked.timeout_s for asked in memory.asked] == [1e9]


def test_a_node_that_nobody_knows_is_named() -> None:
    with pytest.raises(BadInput, match="not there; got 99"):
        grid_of(Memory()).send_and_receive([Message(content(), 99, "train")])


def test_a_type_that_no_client_app_has_is_refused() -> None:
    with pytest.raises(AimassError, match="not known"):
        grid_of(Memory()).send_and_receive(messages(kind="reconnect"))


def sent(*what: str) -> Iterator[Sent]:
    """`t:east` is training for east."""
    kinds = {"t": StepKind.TRAIN, "e": StepKind.EVALUATE, "q": StepKind.QUERY}
    for each in what:
        kind, _, partner = each.partition(":")
        yield Sent(None, partner, kinds[kind], ("", ""), 0.0)


@pytest.mark.parametrize(
    ("what", "groups"),
    [
        (["t:east", "t:west"], ["tt"]),
        (["t:east", "e:west"], ["t", "e"]),
        (["t:east", "t:east", "t:west"], ["tt", "t"]),
        (["q:west", "t:east", "q:east"], ["q", "t", "q"]),  # what east is sent stays in order
        (["q:west", "t:east", "q:north"], ["qq", "t"]),
        ([], []),
    ],
)
def test_an_exchange_is_of_one_kind_with_each_node_once(what: list[str], groups: list[str]) -> None:
    found = ["".join(str(each.kind)[0] for each in group) for group in grouped(sent(*what))]
    assert found == groups


def test_what_threads_send_together_is_one_exchange_of_the_round_that_they_name() -> None:
    memory = Memory()
    grid = grid_of(memory)
    grid.expect(4)

    def one(name: str) -> Any:
        message = grid.create_message(content(), "train", node_id_of(name), group_id="3", ttl=20.0)
        (reply,) = grid.send_and_receive([message])
        return reply.metadata.src_node_id

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(one, FOUR)) == [node_id_of(name) for name in FOUR]
    (asked,) = memory.asked
    assert (asked.round, asked.partners, asked.timeout_s) == (3, FOUR, 20.0)


def test_where_nobody_says_how_many_come_a_thread_waits_until_it_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aimass.server.flower.grid._QUIET_S", 0.01)
    memory = Memory()
    grid = grid_of(memory)
    with ThreadPoolExecutor(1) as pool:
        (reply,) = pool.submit(grid.send_and_receive, messages(["west"])).result()
    assert reply.metadata.src_node_id == node_id_of("west")
    assert memory.asked[0].partners == ("west",)


def test_a_fault_comes_to_every_thread() -> None:
    memory = Memory()

    def broken(number: int, exchange: Exchange) -> None:
        raise BadInput("the run has ended", code="run.state")

    memory.ask = broken  # type: ignore[method-assign]
    grid = grid_of(memory)
    grid.expect(2)

    def one(name: str) -> str:
        with pytest.raises(BadInput) as caught:
            grid.send_and_receive(messages([name]))
        return caught.value.code

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, FOUR[:2])) == ["run.state"] * 2


def test_a_secure_exchange_gives_one_reply_with_mean_and_weight() -> None:
    memory = Memory(secure=True, failures={"west": "secure.left"})
    replies = grid_of(memory).send_and_receive(messages())
    assert [(reply.metadata.src_node_id, reply.has_error()) for reply in replies] == [
        (node_id_of("north"), False), (node_id_of("west"), True),
    ]  # fmt: skip
    arrays = replies[0].content["arrays"]
    assert [(name, array.numpy().tolist()) for name, array in arrays.items()] == [("b", 7), ("0", [2.5] * 3)]
    assert replies[0].content["metrics"] == MetricRecord({"accuracy": 0.5, "num-examples": 90.0})
    (reply, _) = grid_of(memory_ := Memory(secure=True, failures={"west": "x.y"})).send_and_receive(
        messages(kind="evaluate")
    )
    assert len(memory_.asked) == 1
    assert list(reply.content) == ["metrics"]


@pytest.mark.parametrize(
    ("what", "told"),
    [
        (lambda: messages(kind="query"), "a query brings single replies"),
        (lambda: [*messages(FOUR[:3]), Message(content(9.0), node_id_of("west"), "train")], "different messages"),
    ],
)
def test_what_no_secure_sum_can_be_made_of_is_refused(what: Any, told: str) -> None:
    memory = Memory(secure=True)
    with pytest.raises(Refused, match=told):
        grid_of(memory).send_and_receive(what())
    assert not memory.asked
    with pytest.raises(Refused, match="one reply to all"):
        grid_of(memory).push_messages(messages())


def test_who_is_there_is_asked_of_the_server_and_goes_into_the_next_exchange() -> None:
    memory = Memory()
    grid = grid_of(memory)
    assert grid.get_node_ids() == [node_id_of(name) for name in FOUR]
    assert [node.node_id for node in grid.get_nodes()] == grid.get_node_ids()
    grid.send_and_receive(messages())
    assert memory.polls == 3
    assert [(each.times, each.nodes) for each in memory.asked[0].seen] == [(3, FOUR)]
    again = grid_of(memory, State(model=M[0], asked=tuple(memory.asked)))
    assert again.get_node_ids() == [node_id_of(name) for name in FOUR]
    assert memory.polls == 3
