"""Who lies in the lab: the server's operator, who has the server's own desk and key, and a partner, who has its daemon.

Each is the real thing with something else said at its edge, and only as long as a `with` block lasts. The other side
of the wire runs unchanged.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from typing import Any

from aimass.client.active_run import ActiveRun
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.attempt import Attempt
from aimass.privacy.secagg.client_state import ClientState, Kind
from aimass.privacy.secagg.labels import Name, digest
from aimass.privacy.secagg.messages import Advertise, MaskedInput, Proof, ShareDelivery, ShareKeys, SurvivorRequest
from aimass.privacy.secagg.server_state import ServerState
from aimass.proto.errors import AimassError, WrongState
from aimass.proto.transfer import SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.server import messages
from aimass.server.secure_log import AttemptKey
from tests.attack.house import House

__all__ = ["Heard", "LyingPartner", "LyingServer", "lying_partner", "lying_server"]

Said = bytes | list[bytes] | None
Change = Callable[[bytes], Said]
"""What is said in place of a message: something else, several things, or nothing."""


@dataclasses.dataclass(slots=True)
class _Rule:
    kind: Kind
    whose: str
    change: Change
    step: int | None
    left: int


@dataclasses.dataclass(frozen=True, slots=True)
class Heard:
    """What a partner sent, as the server's operator sees it."""

    partner: str
    kind: Kind
    step: int
    attempt: int
    data: bytes = dataclasses.field(repr=False)


def _several(said: Said) -> list[bytes]:
    if said is None:
        return []
    return said if isinstance(said, list) else [said]


class _Rules:
    """What to say in place of what."""

    def __init__(self) -> None:
        self._rules: list[_Rule] = []

    def add(self, kind: Kind, whose: str, change: Change, step: int | None, times: int) -> None:
        self._rules.append(_Rule(kind, whose, change, step, times))

    def clear(self) -> None:
        self._rules.clear()

    def said(self, kind: Kind, whose: str, step: int, data: bytes) -> list[bytes]:
        """The first rule that fits is used up by it."""
        for rule in self._rules:
            if rule.left and (rule.kind, rule.whose) == (kind, whose) and rule.step in (None, step):
                rule.left -= 1
                return _several(rule.change(data))
        return [data]


class LyingServer:
    """The operator: every message of the desk passes here, and whatever else is told in the server's name."""

    def __init__(self, house: House) -> None:
        self.house, self.rules = house, _Rules()
        self.key: AttemptKey | None = None
        self.heard: list[Heard] = []
        self.headers: dict[str, MaskedInput] = {}
        """Headers of the inputs that came, by partner."""
        self.deaf: set[Kind] = set()
        """Kinds of messages that do not come to the machine."""
        self.keeps_inputs: set[str] = set()
        """Partners whose inputs stay at the door."""

    @property
    def state(self) -> ServerState:
        """The newest attempt's."""
        assert self.key is not None
        return self.house.desk._attempts[self.key.run_id, self.key.step][self.key.number].state

    @property
    def attempt(self) -> Attempt:
        found = self.state.attempt
        assert found is not None
        return found

    def index(self, *names: str) -> tuple[int, ...]:
        """Members' places in the attempt."""
        return tuple(sorted(self.attempt.index[self.house.id(name)] for name in names))

    def on(self, kind: Kind, partner: str, change: Change, step: int | None = None, times: int = 1) -> None:
        """Say something else to a partner."""
        self.rules.add(kind, partner, change, step, times)

    def tell(self, partner: str, kind: Kind, data: bytes, number: int | None = None) -> None:
        """Say something at any time; `number` is another attempt's."""
        assert self.key is not None
        message = messages.secagg(self.key.run_id, self.key.step, number or self.key.number, kind, data)
        self.house.desk._engine.voice._outbox.send(partner, message)

    def sign(self, name: Name, body: bytes) -> bytes:
        """With the server's own key."""
        return shared.sign(self.house.desk._signer, name, body)

    def sent(self, partner: str, kind: Kind, step: int = 0, attempt: int = 1) -> bool:
        """Whether a partner sent something of this kind."""
        return any(
            (one.partner, one.kind, one.step, one.attempt) == (partner, kind, step, attempt) for one in self.heard
        )

    # ---------------------------------------------------------------- things to say

    def delivery(self, partner: str, *sharers: str) -> bytes:
        """The boxes of these, as if they alone had shared."""
        attempt, boxes = self.attempt, []
        for index in self.index(*sharers):
            dealer = attempt.ids[index]
            if dealer != self.house.id(partner):
                boxes.append((dealer, dict(self.state.keys[dealer].boxes)[self.house.id(partner)]))
        return ShareDelivery(attempt.sid, self.index(*sharers), tuple(boxes), attempt.n).data

    def survivors(self, partner: str, *names: str) -> bytes:
        """These survived, with what they signed of their inputs."""
        ids = sorted(self.house.id(name) for name in names if name != partner)
        by_id = {self.house.id(name): header for name, header in self.headers.items()}
        proofs = tuple(Proof(one, by_id[one].payload_digest, by_id[one].signature) for one in ids if one in by_id)
        return SurvivorRequest(self.attempt.sid, self.index(*names), proofs, self.attempt.n).data

    # ---------------------------------------------------------------- where it stands

    def _says(self, key: AttemptKey, honest: Callable[[str, Kind, bytes], None]) -> Callable[[str, Kind, bytes], None]:
        def say(partner: str, kind: Kind, data: bytes) -> None:
            self.key = key
            for said in self.rules.said(kind, partner, key.step, data):
                honest(partner, kind, said)

        return say

    def _hears(self, partner: str, message: pb.SecAgg) -> bool:
        """Whether the machine is to hear it."""
        kind = Kind(message.kind)
        self.heard.append(Heard(partner, kind, message.step, message.attempt, message.data))
        return kind not in self.deaf

    def _gets(self, partner: str, header: SubmitHeader) -> None:
        self.headers[partner] = MaskedInput.decode(bytes.fromhex(header.masked))
        if partner in self.keeps_inputs:
            raise WrongState("kept for the operator", code="lab.kept")


@contextlib.contextmanager
def lying_server(house: House) -> Iterator[LyingServer]:
    """The server's operator lies until the block ends."""
    liar, desk = LyingServer(house), house.desk
    said, message, key = desk._said, desk.message, desk.key

    async def hear(partner: str, told: pb.SecAgg) -> None:
        if liar._hears(partner, told):
            await message(partner, told)

    def get(partner: str, header: SubmitHeader) -> str:
        liar._gets(partner, header)
        return key(partner, header)

    lies: dict[str, Any] = {
        "_said": lambda attempt, told: liar._says(attempt, said(attempt, told)),
        "message": hear,
        "key": get,
    }
    vars(desk).update(lies)
    try:
        yield liar
    finally:
        for name in lies:
            vars(desk).pop(name, None)


class LyingPartner:
    """A partner's own daemon, keys and link; what leaves it passes here."""

    def __init__(self, house: House, name: str) -> None:
        self.house, self.name, self.rules = house, name, _Rules()
        self.partner = house.partners[name]
        self.run: ActiveRun | None = None
        self.place = (0, 0)
        self.inputs: list[tuple[bytes, bytes]] = []
        """Headers and payloads that were kept back."""
        self.keeps_inputs: set[int] = set()
        """Steps whose inputs are not sent."""
        self.held: list[tuple[Kind, bytes]] = []
        self.send: Callable[[pb.FromPartner], None]

    @property
    def id(self) -> int:
        return self.house.id(self.name)

    @property
    def state(self) -> ClientState:
        """Its machine's, with all secrets."""
        assert self.run is not None
        live = self.run._sums._live
        assert live is not None
        return live.state

    @property
    def attempt(self) -> Attempt:
        found = self.state.attempt
        assert found is not None
        return found

    def on(self, kind: Kind, change: Change, step: int | None = None, times: int = 1) -> None:
        """Send something else."""
        self.rules.add(kind, "", change, step, times)

    def silent(self, kind: Kind, step: int | None = 0) -> None:
        """Send nothing of this kind in a step."""
        if kind is Kind.INPUT:
            self.keeps_inputs.add(step or 0)
        else:
            self.on(kind, lambda _: None, step, times=99)

    def slow(self, kind: Kind, step: int | None = 0) -> None:
        """Hold a message back until `hurry`."""
        self.on(kind, lambda data: self.held.append((kind, data)), step)

    def hurry(self) -> None:
        """Send what was held back."""
        for kind, data in self.held:
            self.tell(kind, data)
        self.held.clear()

    def tell(self, kind: Kind, data: bytes) -> None:
        """Send anything over its own connection."""
        assert self.run is not None
        step, attempt = self.place
        self.send(
            pb.FromPartner(secagg=pb.SecAgg(run_id=self.run.run_id, step=step, attempt=attempt, kind=kind, data=data))
        )

    def sign(self, name: Name, body: bytes) -> bytes:
        """With its own identity key."""
        return shared.sign(self.house.keys[self.name].identity, name, body)

    # ---------------------------------------------------------------- things to send

    def ad(self, **changes: Any) -> bytes:
        """Its advertisement with changes, signed by itself."""
        held = self.state.ad
        assert held is not None
        ad: Advertise = dataclasses.replace(held, **changes)
        return dataclasses.replace(ad, signature=self.sign(Name.ADVERTISE, self.state.context.ctx + ad.body)).data

    def shares(self, data: bytes, change: Callable[[ShareKeys], ShareKeys]) -> bytes:
        """Its share keys with changes, signed by itself."""
        keys = change(ShareKeys.decode(data, self.attempt.roster.k))
        return dataclasses.replace(keys, signature=self.sign(Name.SHARES, digest(Name.SHARES_BODY, keys.body))).data

    def header(self, header: bytes, **changes: Any) -> bytes:
        """The header of its input with changes, signed by itself."""
        made = dataclasses.replace(MaskedInput.decode(header), **changes)
        body = MaskedInput.signed(made.sid, made.id, made.sharers_digest, made.payload_digest)
        return dataclasses.replace(made, signature=self.sign(Name.INPUT, body)).data

    async def upload(self, header: bytes, payload: bytes) -> str:
        """Send an input over its own connection; the code that it is refused with, or nothing."""
        assert self.run is not None
        head = SubmitHeader(
            kind="contribution",
            size=len(payload),
            digest=hashlib.sha256(payload).hexdigest(),
            run_id=self.run.run_id,
            step=self.place[0],
            attempt=self.place[1],
            masked=header.hex(),
        )
        try:
            await self.partner.daemon.transfer(lambda channel: submit(channel, head, memoryview(payload)))
        except AimassError as error:
            return error.code
        return ""

    # ---------------------------------------------------------------- where it stands

    def _sends(self, message: pb.FromPartner) -> None:
        if message.WhichOneof("body") != "secagg":
            self.send(message)
            return
        told = message.secagg
        self.place = told.step, told.attempt
        for said in self.rules.said(Kind(told.kind), "", told.step, told.data):
            self.tell(Kind(told.kind), said)


@contextlib.contextmanager
def lying_partner(house: House, name: str) -> Iterator[LyingPartner]:
    """A partner lies until the block ends."""
    liar, daemon = LyingPartner(house, name), house.partners[name].daemon
    liar.send, active = daemon.send, daemon._active

    def begun(run_id: str, folder: Any) -> ActiveRun:
        run = liar.run = active(run_id, folder)
        honest = run._sums._send_input

        async def send_input(live: Any, header: bytes, payload: bytes | memoryview) -> None:
            liar.place = live.key
            if live.step.index in liar.keeps_inputs:
                liar.inputs.append((header, bytes(payload)))
            else:
                await honest(live, header, payload)

        vars(run._sums)["_send_input"] = send_input
        return run

    lies: dict[str, Any] = {"send": liar._sends, "_active": begun}
    vars(daemon).update(lies)
    try:
        yield liar
    finally:
        for lie in lies:
            vars(daemon).pop(lie, None)
