"""A partner's work in a simulated step, by the partner's own code: its shard, the trainer, the gate. Files in and out.

This is the one module of the simulation that imports the client. Any process that sees its site can do it, any number
of times: without privacy noise the same work gives the same bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import itertools
import json
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Final, get_args

import msgspec

from aimass.client.capacity import capacity_of
from aimass.client.data_get import data_files
from aimass.client.local_state import State
from aimass.client.policy import Admit, Confinement, Policy, Refuse, decide, read_policy
from aimass.client.ranks import Ranks
from aimass.client.release import Facts, release
from aimass.client.shards import Shard, open_shard, resolve
from aimass.client.synchronous import train_together
from aimass.client.trainee import Trainee
from aimass.client.worker_protocol import Order, order_of
from aimass.proto.bases import check_planned
from aimass.proto.boosting import noise_of_trees
from aimass.proto.contribution import Limits, decode_contribution
from aimass.proto.durable import UNINTERRUPTED, write_parts
from aimass.proto.errors import AimassError, BadInput, OutOfSpace, Refused
from aimass.proto.frames import given_away, seal, sealed_view
from aimass.proto.home import ChildLimits
from aimass.proto.manifest import ShardManifest
from aimass.proto.names import Digest, Name
from aimass.proto.plan import Plan
from aimass.proto.sent import Sent, check_sent, codec_of
from aimass.proto.step import Reduce, Step, StepKind
from aimass.proto.storage import Blobs, map_file
from aimass.proto.task import Task, load, locate
from aimass.proto.tensors import Blob
from aimass.proto.values import Value, canonical_json, decode_json
from aimass.server.drivers.base import find_driver
from aimass.server.simulation.site import Opens, Site

__all__ = ["Asked", "Bench", "Made", "check_admitted", "data_files", "do", "do_far", "do_together", "open_policy"]

_ROUNDING: Final = b"AIMass simulated rounding v1\0"
_MOST_BYTES: Final = 1 << 48
_CACHE_BYTES: Final = 256 << 20
"""Rows that a process keeps between steps; a shard that is not kept is read again."""


def open_policy(plan: Plan) -> str:
    """The policy of partners that permit what the plan asks, as TOML: the gate's checks stay, with their own limits."""
    name = plan.data_schema.partition("/")[0]
    analyses = sorted({stage.driver for stage in plan.stages})
    return (
        "plain_sums = true\nsmallest_cohort = 1\nconfinement = []\n"
        f'[schemas]\n"{plan.data_schema}" = "{name}"\n'
        f"[release]\nanalyses = {json.dumps(analyses)}\n{_least(plan)}"
        "[trees]\nplain = true\n"
        "[explain]\nplain = true\nsmallest_noise = 0.0\n"
        f'[[tasks]]\nname = "{plan.task.name}"\ndigest = "{plan.task.digest}"\n'
        f"{_admitted(plan)}"
    )


def _least(plan: Plan) -> str:
    """The fewest rows of a cell that the plan's analysis lets leave, in the policy."""
    return "" if plan.explain is None else f"smallest_count = {plan.explain.least_count}\n"


def _admitted(plan: Plan) -> str:
    """The plan's analysis, in the policy."""
    if plan.explain is None:
        return ""
    return f'[[tasks]]\nname = "{plan.explain.name}"\ndigest = "{plan.explain.digest}"\nkind = "analysis"\n'


def check_admitted(policy: str, plan: Plan, participants: int) -> None:
    """Raise `Refused` where partners with this policy would not take part."""
    match decide(read_policy(policy, "the policy"), plan, participants, frozenset(get_args(Confinement))):
        case Admit():
            return
        case Refuse(code, reason, value, limit):
            raise Refused(reason, code=code, value=value, limit=limit)
        case pending:
            raise Refused(pending.reason, code="policy.approval_pending", cure="Admit the task in the policy.")


class Asked(Value, frozen=True):
    """A partner's order: the step, the driver that proposed it, and the file of its local state, if it has one."""

    partner: Name
    step: Step
    driver: Name
    state: str = ""


class Made(Value, frozen=True):
    """What came of it: the contribution's file and digest, released figures, the file of the new local state.

    With `fault` nothing came: the partner failed, as it would live. With `full` the disk was full, which is nobody's
    fault: the simulation stops, and goes on when there is room. `copies` are those of shards that were found false or
    missing, or whose store was away, while another copy was read.
    """

    partner: Name
    file: str = ""
    digest: Digest = "0" * 64
    figures: dict[str, float] = {}
    state: str = ""
    fault: str = ""
    full: bool = False
    seconds: float = 0.0
    bytes_read: int = 0
    copies: dict[str, str] = {}


@dataclasses.dataclass(frozen=True, slots=True)
class _Kept:
    shard: Shard
    manifest: ShardManifest


_Worked = tuple[memoryview, State, int]
"""A contribution, the new local state, and how many private steps were done."""


class Bench:
    """Does any partner's work in one simulation; task, policy and the shards that it used last stay open."""

    def __init__(self, site: Site) -> None:
        self._site, self._plan = site, site.plan
        self._policy: Policy = read_policy(site.policy, "the policy")
        source = locate(self._plan.task.name)
        if source.digest != self._plan.task.digest:
            raise BadInput(
                "the installed task is not the plan's any more",
                code="task.digest",
                value=source.digest[:16],
                limit=self._plan.task.digest[:16],
                cure="Begin a new simulation: results of two tasks do not mix.",
            )
        check_planned(self._plan.base, source.base)
        self._task: Task = load(source)
        self._trainee = Trainee(self._task, capacity_of(ChildLimits()))
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._kept_bytes = 0
        self._blobs: Blobs = site.models()
        self._blobs_index = -1

    def do(self, asked: Asked, soon: str = "") -> Made:
        """Train, evaluate or analyse as asked. What goes wrong is the partner's failure, as it would be live.

        `soon` names whose order this bench has next.
        """
        started = time.monotonic()
        try:
            self._opened(asked.partner)
            if soon and soon not in self._kept:
                self._site.soon(soon)
            made = self._done(asked)
        except OutOfSpace as error:
            return Made(partner=asked.partner, fault=error.sentence(), full=True)
        except AimassError as error:
            made = Made(partner=asked.partner, fault=f"{error.code}: {error.sentence()}")
        except Exception as error:  # noqa: BLE001  (whatever a task raises is that partner's failure)
            made = Made(partner=asked.partner, fault=f"child.{type(error).__name__}: {error}")
        seconds, fetched = time.monotonic() - started, self._site.fetched()
        return msgspec.structs.replace(
            made, seconds=seconds, bytes_read=fetched.bytes_read, copies=dict(fetched.copies)
        )

    def parcel(self, asked: Asked, made: Made) -> bytes:
        """What of a contribution goes back with the answer, see `Site`."""
        return self._site.parcel(asked.step, made.file) if made.file else b""

    def _done(self, asked: Asked) -> Made:
        kept, step = self._opened(asked.partner), asked.step
        inputs = [Blob(self._blobs_of(step).open(digest)) for digest in step.inputs_of(asked.partner)]
        held = self._site.state(asked.state) if asked.state else b""
        coarseness = self._policy.coarseness
        order = order_of(self._plan, step, kept.manifest.participant, self._site.run_id, coarseness)
        worked = self._worked(order, kept.shard, inputs, held)
        return self._sent(asked, kept.manifest.participant, kept.shard, inputs[0], worked)

    def together(self, asked: Sequence[Asked], ranks: Ranks) -> Made:
        """A training step by all `ranks`, of which this one has every so-manieth shard; what it comes to is the same at
        each, and the first one's answer."""
        started, first = time.monotonic(), asked[0]
        mine = [one.partner for one in asked[ranks.rank :: ranks.count]]
        model = Blob(self._blobs_of(first.step).open(first.step.inputs[0]))
        held = self._site.state(first.state) if first.state else b""
        order = order_of(self._plan, first.step, "", self._site.run_id)
        seed = bytes.fromhex(order.seed)
        made, state = train_together(self._task, lambda: self._pass(mine), model, held, seed, order.train, ranks)
        if ranks.rank:
            return Made(partner=first.partner)
        worked = sealed_view(seal(given_away(made.parts())), _MOST_BYTES), state, 0
        answer = self._sent(first, "", None, model, worked)
        seconds, fetched = ranks.count * (time.monotonic() - started), self._site.fetched()
        return msgspec.structs.replace(answer, seconds=seconds, bytes_read=fetched.bytes_read)

    def _pass(self, partners: Sequence[str]) -> Iterator[Shard]:
        for partner, soon in zip(partners, [*partners[1:], ""], strict=True):
            kept = self._opened(partner)
            if soon and soon not in self._kept:
                self._site.soon(soon)
            yield kept.shard

    def _sent(self, asked: Asked, participant: str, shard: Shard | None, model: Blob, worked: _Worked) -> Made:
        """Through the gate, and into the spool."""
        (made, state, private_steps), step = worked, asked.step
        released = release(
            made,
            self._plan,
            step,
            model.layout,
            self._policy,
            draw=self._draw(participant, step),
            private_steps=private_steps,
            facts=self._facts(shard),
        )
        file = f"{asked.partner}.{secrets.token_hex(4)}"  # who does it again writes beside, never over
        path = self._site.spool(step.index) / file
        digest = write_parts(path, released.parts, UNINTERRUPTED, "simulation.contribution", synced=False)
        if self._plan.secure is None:
            self._check(asked, path, model)
        figures = released.beside.figures if released.beside is not None else {}
        kept_state = self._site.keep_state(file, state) if state and step.kind is StepKind.TRAIN else ""
        return Made(partner=asked.partner, file=file, digest=digest, figures=figures, state=kept_state)

    def _facts(self, shard: Shard | None) -> Facts:
        """What the gate knows; of several shards together there is no table whose rows it would count."""
        rows, held_out = (1, 0) if shard is None else (len(shard.train.labels), len(shard.held_out.labels))
        accounted = self._policy.protected(self._data_set)
        return Facts(self._site.run_id, accounted=accounted, rows=rows, held_out_rows=held_out)

    def _worked(self, order: Order, shard: Shard, inputs: list[Blob], held: State) -> _Worked:
        """The contribution, the new local state, the private steps; a large model is let go as it is copied."""
        done = self._trainee.do(order, shard, inputs, held)
        parts, state, private_steps = done.contribution.parts(), done.state, done.private_steps
        del done
        return sealed_view(seal(given_away(parts)), _MOST_BYTES), state, private_steps

    def _blobs_of(self, step: Step) -> Blobs:
        """A store that has opened this step's models alone: maps of earlier ones would keep their room on the disk."""
        if step.index != self._blobs_index:
            self._blobs, self._blobs_index = self._site.models(), step.index
        return self._blobs

    def _check(self, asked: Asked, path: Path, model: Blob) -> None:
        """What the server asks of a contribution before it takes it."""
        step, limits = asked.step, Limits()
        if step.kind is not StepKind.TRAIN or step.reduce is not Reduce.SUM:
            limits = dataclasses.replace(limits, norm=limits.metric)
        expected = find_driver(asked.driver).expects(step, model.layout, self._plan)
        sent = Sent(decode_contribution(Blob(map_file(path))), codec_of(self._plan, step, model.layout))
        check_sent(sent, expected, limits)

    @property
    def _data_set(self) -> str:
        return self._policy.schemas.get(self._plan.data_schema, "")

    def _draw(self, participant: str, step: Step) -> Callable[[int], bytes]:
        """Bytes for the rounding of a secure sum: from the plan's seed, so that it repeats; secret ones for noise."""
        noise = self._plan.privacy, self._plan.secure and self._plan.secure.noise, noise_of_trees(self._plan)
        if any(noise):
            return secrets.token_bytes
        about = f"{self._plan.seed}/{participant}/{step.index}/".encode()
        calls = itertools.count()
        return lambda size: hashlib.shake_256(_ROUNDING + about + str(next(calls)).encode()).digest(size)

    def _opened(self, partner: str) -> _Kept:
        if partner in self._kept:
            self._kept.move_to_end(partner)
            return self._kept[partner]
        with contextlib.ExitStack() as stack:
            manifest, folder = stack.enter_context(self._site.shard(partner))
            if self._policy.budgeted(self._data_set):
                manifest = msgspec.structs.replace(manifest, split="independent")
            files = [stack.enter_context(path.open("rb")) for path in resolve(manifest, folder)]
            shard, _ = open_shard(self._task.schema, manifest, files)
        kept = self._kept[partner] = _Kept(shard, manifest)
        self._kept_bytes += _bytes(shard)
        while self._kept_bytes > _CACHE_BYTES and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._kept_bytes -= _bytes(oldest.shard)
        return kept


def _bytes(shard: Shard) -> int:
    return shard.train.size_bytes + shard.held_out.size_bytes


def do_together(opens: Opens, asked: Sequence[bytes], ranks: Ranks) -> tuple[bytes, bytes]:
    """As `do_far`, of a training step of all `asked` by all `ranks` together. What goes wrong is raised."""
    bench, orders = Bench(opens()), [decode_json(Asked, one, "an order") for one in asked]
    made = bench.together(orders, ranks)
    return canonical_json(made), bench.parcel(orders[0], made)


@lru_cache(maxsize=1)
def _bench(opens: Opens) -> Bench:
    return Bench(opens())


def do(opens: Opens, asked: bytes, soon: str = "") -> bytes:
    """An `Asked` in, a `Made` out, both as JSON: what processes send each other. The bench stays for the next one."""
    return canonical_json(_bench(opens).do(decode_json(Asked, asked, "an order"), soon))


def do_far(opens: Opens, asked: bytes, soon: str = "") -> tuple[bytes, bytes]:
    """As `do`, with the contribution itself where who asked does not see the spool that it was written into."""
    bench, order = _bench(opens), decode_json(Asked, asked, "an order")
    made = bench.do(order, soon)
    return canonical_json(made), bench.parcel(order, made)
