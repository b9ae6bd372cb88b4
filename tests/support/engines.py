"""An engine with its desks over a real store, blobs and spool in a folder, on a clock that a test moves."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.roster import Member, MemberRole, Roster
from aimass.proto.contribution import Contribution, Group, Limits, Metric
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.plan import Cohort, EvaluateSettings, Plan, Stage, TaskRef, TrainSettings, encode_plan, plan_digest
from aimass.proto.sealed import SealedHead
from aimass.proto.storage import FileBlobs, Spool
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.transfer import SubmitHeader
from aimass.proto.v1 import federation_pb2 as pb
from aimass.server.contributions import Contributions
from aimass.server.differences import ModelDifferences
from aimass.server.drivers.base import Driver
from aimass.server.engine import Engine
from aimass.server.flower.desk import FlowerDesk
from aimass.server.live import Message
from aimass.server.partner_desk import PartnerDesk
from aimass.server.readings import Readings
from aimass.server.retention import Housekeeping
from aimass.server.runs import Run
from aimass.server.secure_desk import SecureDesk
from aimass.server.settings import Limits as ServerLimits
from aimass.server.store import Store
from aimass.server.studies import StudyDesk
from aimass.server.submission import Submission
from tests.support.clock import ManualClock

MODEL = encode_numpy({"w": np.zeros(4, np.float32)})


class Outbox:
    """Everybody is here; what is said is kept."""

    def __init__(self, partners: tuple[str, ...]) -> None:
        self.said: list[tuple[str, pb.ToPartner]] = []
        self._partners = frozenset(partners)

    def send(self, partner: str, message: Message) -> None:
        self.said.append((partner, message() if callable(message) else message))

    def connected(self) -> frozenset[str]:
        return self._partners

    def heard(self, partner: str) -> list[str]:
        """Kinds of messages that a partner got."""
        return [str(message.WhichOneof("body")) for name, message in self.said if name == partner]


@dataclasses.dataclass
class Bench:
    """A running engine. `partners` are also their participant keys."""

    folder: Path
    engine: Engine
    submission: Submission
    desk: PartnerDesk
    contributions: Contributions
    readings: Readings
    outbox: Outbox
    clock: ManualClock
    blobs: FileBlobs
    spool: Spool
    store: Store
    partners: tuple[str, ...]
    housekeeping: Housekeeping
    differences: ModelDifferences
    keys: Mapping[str, Ed25519PrivateKey]
    roster: Roster

    @staticmethod
    async def start(
        folder: Path,
        clock: ManualClock,
        partners: tuple[str, ...] = ("north", "south"),
        durability: Durability = UNINTERRUPTED,
        drivers: Mapping[str, Driver] | None = None,
        keep: int = 0,
        room: Callable[[], None] = lambda: None,
        keys: Mapping[str, Ed25519PrivateKey] | None = None,
        home: Path | None = None,
        outbox: Outbox | None = None,
    ) -> Bench:
        """With a `home` the Flower apps that are installed there run."""
        store = await asyncio.to_thread(Store.open, folder / "runs.sqlite", durability)
        blobs, spool = FileBlobs(folder / "blobs", durability), Spool(folder / "spool", durability)
        outbox = outbox or Outbox(partners)
        engine = Engine(store, blobs, spool, SIGNER, outbox, clock, drivers)
        keys = keys or {name: Ed25519PrivateKey.generate() for name in ("hub", *partners)}
        roster = _roster(keys)
        housekeeping = Housekeeping(engine, store, blobs, keep)
        engine.after_commit = housekeeping.after_commit
        differences = ModelDifferences(folder / "differences", blobs, durability)
        housekeeping.differences = differences.keep
        readings = Readings(engine, store, blobs, outbox, lambda: housekeeping.deletions)
        secure = SecureDesk(engine, store, blobs, spool, lambda: roster, SIGNER)
        engine.secret = secure
        submission = Submission(engine, store, blobs, lambda: roster, room)
        submission.studies = studies = StudyDesk(engine, store, outbox)
        if home is not None:
            apps = FlowerDesk(engine, blobs, outbox, home, folder, ServerLimits())
            engine.programs, housekeeping.kept_back, submission.probe = apps, apps.kept, apps.probe
        bench = Bench(
            folder, engine, submission,
            PartnerDesk(engine, store, lambda: roster, outbox, secure, studies),
            Contributions(engine, blobs, spool, Limits(), secure),
            readings, outbox, clock, blobs, spool, store, partners, housekeeping, differences, keys, roster,
        )  # fmt: skip
        await engine.start()
        return bench

    async def stop(self) -> None:
        await self.engine.stop()
        self.store.close()

    def plan(self, rounds: int = 1, quorum: int = 2, deadline_s: float = 100.0) -> bytes:
        return encode_plan(
            Plan(
                name="p", task=TaskRef(name="heart", digest="0" * 64), data_schema="heart/1", seed=1,
                model=Blob(MODEL).digest, stages=(Stage(driver="averaging", options={"rounds": rounds}),),
                train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1), evaluate=EvaluateSettings(every=0),
                cohort=Cohort(quorum=quorum, step_deadline_s=deadline_s, join_deadline_s=max(100.0, deadline_s)),
            )
        )  # fmt: skip

    async def submit(self, plan: bytes = b"") -> str:
        await asyncio.to_thread(self.blobs.put, [MODEL])
        return await self.submission.submit(plan or self.plan(), secrets.token_hex(8), "anna")

    async def join(self, run_id: str, *partners: str) -> None:
        digest = plan_digest(self.engine.live(run_id).row.plan)
        for name in partners or self.partners:
            await self.desk.joined(name, pb.Joined(run_id=run_id, plan_digest=digest, participant=name))

    async def send(
        self,
        run_id: str,
        partner: str,
        step: int = 0,
        value: float = 1.0,
        weight: float = 1.0,
        ledger: SealedHead | None = None,
    ) -> None:
        """Spool a contribution and have it accepted."""
        await self.send_bytes(run_id, partner, step, update(value, weight), ledger)

    async def send_bytes(
        self, run_id: str, partner: str, step: int, data: bytes, ledger: SealedHead | None = None
    ) -> None:
        """Spool these bytes as a contribution, whatever they are, and have them accepted."""
        digest = Blob(data).digest
        header = SubmitHeader(
            kind="contribution", size=len(data), digest=digest, run_id=run_id, step=step, ledger=ledger
        )
        writer = self.spool.begin(self.contributions.key(partner, header), len(data), header.digest)
        try:
            if writer.offset < len(data):
                writer.append(data[writer.offset :])
            path = writer.finish()
        finally:
            writer.close()
        await self.contributions.accept(partner, header, path)

    async def until(self, run_id: str, holds: Callable[[Run], bool]) -> Run:
        """Wait for a change of the run after which something holds."""
        live, changed = self.engine.live(run_id), asyncio.Event()
        live.watchers.add(changed)
        while not holds(live.row.run):
            changed.clear()
            await changed.wait()
        return live.row.run

    async def finished(self, run_id: str) -> Run:
        """The run once it has ended."""
        return await self.until(run_id, lambda run: run.state.final)


def update(value: float, weight: float = 1.0) -> bytes:
    """A contribution that moves every element by `value`."""
    group = Group(weight, {"w": np.full(4, value, np.float32)})
    return Contribution({"update": group}, {"loss": Metric(1.0, 1.0)}, {}).encode()


SIGNER = Ed25519PrivateKey.generate()


def _roster(keys: Mapping[str, Ed25519PrivateKey]) -> Roster:
    return Roster(
        1,
        tuple(
            Member(
                index, MemberRole.SERVER if index == 0 else MemberRole.PARTNER, name,
                key.public_key().public_bytes_raw(), bytes([index]) * 32,
            )
            for index, (name, key) in enumerate(keys.items())
        ),
    )  # fmt: skip
