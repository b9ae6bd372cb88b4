"""The Grid of a ServerApp: what it sends is a step of the run, and what it is answered stands in the journal.

Node ids are hashes of the partners' names. Messages that are sent in one call are one exchange, as long as they are of
one kind and each for another node; exchanges are done one after the other. Flower's older server sends each message
from a thread of its own: as many as it says are one exchange, and else what comes close together.
"""

from __future__ import annotations

import dataclasses
import math
import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

from aimass.proto.contribution import decode_contribution
from aimass.proto.errors import BadInput, Refused
from aimass.proto.flower.names import Array, ArrayRecord, Error, Grid, Message, MetricRecord, RecordDict
from aimass.proto.flower.private import named
from aimass.proto.flower.records import WEIGHT, Told, kind_of, node_id_of, pack, unpack_reply
from aimass.proto.hashing import digest_of
from aimass.proto.step import StepKind
from aimass.server.flower.journal import Exchange, Inputs, fingerprint
from aimass.server.flower.outcome import Carrier, Outcome
from aimass.server.flower.replay import Replay

__all__ = ["DurableGrid", "grouped"]

_QUIET_S: Final = 0.1
_PATIENCE_S: Final = 10.0
_RAISED, _UNAVAILABLE, _NO_REPLY = 2, 5, 4  # flwr's ErrorCode
_Said = tuple[str, str, int]
_CODES: Final = {"step": _NO_REPLY, "flower": _RAISED, "run": _UNAVAILABLE}


@dataclasses.dataclass(eq=False, slots=True)
class Sent:
    """A message on its way; `number` is the exchange that it went into, or `fault` why it went into none."""

    message: Message
    partner: str
    kind: StepKind
    inputs: Inputs
    timeout_s: float
    round: int = 0
    number: int = -1
    fault: Exception | None = None


class DurableGrid(Grid):  # type: ignore[misc]  # (flwr is not followed)
    """See the module."""

    def __init__(self, carrier: Carrier, replay: Replay, partners: Iterable[str], run: Any, *, secure: bool) -> None:
        """`run` is flwr's description of the run; `partners` are all that may ever take part."""
        self._carrier, self._replay, self._run, self._secure = carrier, replay, run, secure
        self._names = {node_id_of(name): name for name in partners}
        self._lock = threading.Lock()
        self._arrived = threading.Condition()
        self._gathering: list[Sent] = []
        self._leading, self._expected = False, 0
        self._waiting: dict[str, Sent] = {}
        self._last_model = ""

    # ---------------------------------------------------------------- what flwr asks for

    def set_run(self, run: Any) -> None:
        """Flower's own Grids are told their run; this one is made for it."""

    @property
    def run(self) -> Any:
        """Run information."""
        return self._run

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """A new message."""
        return Message(content, dst_node_id=dst_node_id, message_type=message_type, group_id=group_id, ttl=ttl)

    def expect(self, count: int) -> None:
        """So many messages will come from other threads than the app's own, each from one."""
        with self._arrived:
            self._expected = count

    def get_node_ids(self) -> list[int]:
        """Who takes part and is connected; while the app is replayed, who was then."""
        with self._lock:
            names = self._replay.remembered()
            own = threading.current_thread() is threading.main_thread()
            if names is None:
                names = self._carrier.who()
                if own:  # how often other threads ask, their clock says
                    self._replay.saw(names)
            return [node_id_of(name) for name in names]

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        """Send messages; ids to pull their replies by."""
        if self._secure:
            raise Refused(
                "secure sums give one reply to all messages of a call",
                code="flower.secure_push",
                cure="Use grid.send_and_receive, or a plan without [secure].",
            )
        return self._push(list(messages), None)

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        """Replies to these messages, of those exchanges that are over; each is given once."""
        return self._pulled(message_ids, wait=False)

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Send messages and wait for what becomes of them: replies and errors, in the order of the messages."""
        return self._pulled(self._push(list(messages), timeout), wait=True)

    # ---------------------------------------------------------------- out

    def _push(self, messages: Sequence[Message], timeout: float | None) -> list[str]:
        blobs: dict[_Said, Inputs] = {}
        sent = [self._packed(message, timeout, blobs) for message in messages]
        if threading.current_thread() is threading.main_thread():
            with self._lock:
                self._deliver(sent)
        else:
            self._gather(sent)
        ids = []
        for each in sent:
            message_id = f"{each.number}-{each.partner}"
            named(each.message, message_id)
            self._waiting[message_id] = each
            ids.append(message_id)
        return ids

    def _packed(self, message: Message, timeout: float | None, blobs: dict[_Said, Inputs]) -> Sent:
        """Messages of a call often share their content, which is packed once."""
        about = message.metadata
        partner = self._names.get(about.dst_node_id)
        if partner is None:
            raise BadInput(
                "the app sends a message to a node that is not there", code="flower.node", value=about.dst_node_id
            )
        key = about.message_type, about.group_id, id(message.content)  # the records blob holds type and group too
        if key not in blobs:
            blobs[key] = self._kept(Told(about.message_type, message.content, about.group_id))
        limits = [limit for limit in (timeout, about.ttl) if limit and limit != math.inf]
        if any(not limit > 0 for limit in limits):
            raise BadInput("a timeout is a number of seconds above 0", code="flower.timeout", value=min(limits))
        return Sent(message, partner, kind_of(about.message_type), blobs[key], min(limits, default=0.0))

    def _kept(self, told: Told) -> Inputs:
        """The blobs of a message, at the server. The model that was sent last is there."""
        model, records = pack(*told)
        inputs = digest_of(model), digest_of(records)
        with self._lock:
            if inputs[0] != self._last_model:
                self._carrier.keep(inputs[0], model)
                self._last_model = inputs[0]
            self._carrier.keep(inputs[1], records)
        return inputs

    def _gather(self, sent: list[Sent]) -> None:
        """Of a thread beside others: the first waits until no more come, and speaks for all."""
        with self._arrived:
            for each in sent:
                group = each.message.metadata.group_id
                each.round = int(group) if group.isdecimal() else 0
            self._gathering += sent
            self._arrived.notify_all()
            if self._leading:
                self._arrived.wait_for(lambda: all(each.number >= 0 or each.fault for each in sent))
            else:
                self._leading = True
                known = self._expected > 0
                while not known or len(self._gathering) < self._expected:
                    if not self._arrived.wait(_PATIENCE_S if known else _QUIET_S):
                        break  # a thread may have failed before it sent anything
                batch, self._gathering, self._leading = self._gathering, [], False
                self._expected = max(self._expected - len(batch), 0)
                self._deliver_for_all(batch)
                self._arrived.notify_all()
        for each in sent:
            if each.fault is not None:
                raise each.fault

    def _deliver_for_all(self, batch: list[Sent]) -> None:
        try:
            with self._lock:
                self._deliver(sorted(batch, key=lambda each: each.partner))
        except Exception as fault:  # noqa: BLE001  (each thread raises it)
            for each in batch:
                each.fault = fault

    def _deliver(self, sent: Sequence[Sent]) -> None:
        """What was sent before belongs to the exchange that it was in; the rest is asked."""
        fresh = []
        for each in sent:
            number = self._replay.recall(each.partner, fingerprint(each.inputs))
            if number is None:
                fresh.append(each)
            else:
                each.number = number
        for group in grouped(fresh):
            if self._secure:
                _check_one_content(group)
            exchange = _exchange(group, self._replay)
            number = self._replay.asked(exchange)
            self._carrier.ask(number, exchange)
            for each in group:
                each.number = number

    # ---------------------------------------------------------------- back

    def _pulled(self, message_ids: Iterable[str], *, wait: bool) -> list[Message]:
        waiting = {message_id: self._waiting[message_id] for message_id in message_ids if message_id in self._waiting}
        found = {number: self._carrier.fetch(number, wait=wait) for number in {s.number for s in waiting.values()}}
        replies = []
        for message_id, sent in waiting.items():
            if (outcome := found[sent.number]) is not None:
                del self._waiting[message_id]
                replies += _replies(sent, outcome)
        return replies


def grouped(sent: Iterable[Sent]) -> list[list[Sent]]:
    """Exchanges of one kind and round each, every node once in each; what one node is sent stays in order."""
    groups: list[dict[str, Sent]] = []
    last: dict[str, int] = {}
    for each in sent:
        like = (each.kind, each.round)
        for place in range(last.get(each.partner, -1) + 1, len(groups)):
            first = next(iter(groups[place].values()))
            if (first.kind, first.round) == like:
                break
        else:
            place = len(groups)
            groups.append({})
        groups[place][each.partner] = each
        last[each.partner] = place
    return [list(group.values()) for group in groups]


def _exchange(group: Sequence[Sent], replay: Replay) -> Exchange:
    ((usual, _),) = Counter(each.inputs for each in group).most_common(1)
    return Exchange(
        kind=group[0].kind,
        round=replay.round_of(group[0].kind, group[0].round),
        partners=tuple(sorted(each.partner for each in group)),
        inputs=usual,
        addressed={each.partner: each.inputs for each in group if each.inputs != usual},
        timeout_s=max(each.timeout_s for each in group),
        seen=replay.take_seen(),
    )


def _check_one_content(group: Sequence[Sent]) -> None:
    """Raise `Refused` for an exchange that no secure sum can be made of."""
    what = ""
    if group[0].kind is StepKind.QUERY:
        what = "a query brings single replies"
    elif any(each.inputs != group[0].inputs for each in group):
        what = "the app sends different messages to different nodes"
    if what:
        raise Refused(
            f"a secure sum is over equal messages of training or evaluation, and {what}",
            code="flower.secure_exchange",
            cure="Change the app, or submit a plan without [secure].",
        )


def _replies(sent: Sent, outcome: Outcome) -> list[Message]:
    """The reply to a message or its error; of a secure sum nothing for those that another stands for."""
    message = sent.message
    if (reason := outcome.failures.get(sent.partner)) is not None:
        return [Message(Error(_CODES.get(reason.partition(".")[0], _RAISED), reason), reply_to=message)]
    if outcome.sum is not None:
        return [Message(_mean(sent, outcome), reply_to=message)] if outcome.sum.node == sent.partner else []
    try:
        content = unpack_reply(decode_contribution(outcome.replies[sent.partner]))
    except BadInput as error:  # no partner's reply ends an app
        return [Message(Error(_RAISED, f"{error.code}: {error.sentence()}"), reply_to=message)]
    return [Message(content, reply_to=message)]


def _mean(sent: Sent, outcome: Outcome) -> RecordDict:
    """What a secure sum says, in the form of one reply; its arrays are in the order of those that were sent."""
    assert outcome.sum is not None  # noqa: S101  (asked of sums alone)
    content = RecordDict()
    if outcome.model is not None:
        names, mean = next(iter(sent.message.content.array_records.values())), outcome.model.arrays()
        content["arrays"] = ArrayRecord({name: Array(mean[name]) for name in names})
    content["metrics"] = MetricRecord({**outcome.sum.metrics, WEIGHT: outcome.sum.weight})
    return content
