"""A partner's folder, read once for all its parts: settings, keys, policy, data sets."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import msgspec

from aimass.client.budget import Budgets
from aimass.client.journal import Journal
from aimass.client.keeper import Keeper
from aimass.client.ledger_heads import LedgerHeads
from aimass.client.link_speed import LinkSpeed
from aimass.client.model_cache import ModelCache
from aimass.client.policy import AdmittedTask, Policy, read_policy
from aimass.client.row_sketch import RowCheck
from aimass.client.secure_records import SumRecords
from aimass.client.study_policy import ApprovedStudy
from aimass.privacy.keys import KeyPair, load_keys
from aimass.proto.bases import BaseFolder
from aimass.proto.clock import Clock
from aimass.proto.durable import Durability, make_folder, write_file
from aimass.proto.errors import AimassError, NotFound, OutOfSpace, Refused
from aimass.proto.home import HomeSettings, load_home
from aimass.proto.manifest import ShardManifest, read_shard_manifest
from aimass.proto.pace import Pace
from aimass.proto.plan import Plan
from aimass.proto.sealed import SealedHead
from aimass.proto.values import Value, canonical_json, decode_json

__all__ = ["Partner", "open_partner", "policy_in"]


class Approvals(Value, frozen=True):
    """Task digests, and studies, that a person here approved beside those of the policy."""

    tasks: tuple[AdmittedTask, ...] = ()
    studies: tuple[ApprovedStudy, ...] = ()


@dataclasses.dataclass(slots=True)
class Partner:
    """The folder, opened."""

    folder: Path
    settings: HomeSettings
    keys: KeyPair
    keeper: Keeper
    journal: Journal
    cache: ModelCache
    bases: BaseFolder
    sums: SumRecords
    budgets: Budgets
    heads: LedgerHeads
    rows: RowCheck
    durability: Durability
    up: Pace
    down: Pace
    link_speed: LinkSpeed

    def check_room(self, more: int = 0) -> None:
        """Raise `OutOfSpace` where so little of the disk is free, with `more` bytes taken of it, that new work would
        only fill the rest."""
        free, floor = shutil.disk_usage(self.folder).free - more, self.settings.limits.min_free_bytes
        if free < floor:
            raise OutOfSpace(
                "this partner begins no new work: its disk is nearly full",
                code="client.low_space",
                value=f"{free} bytes free",
                limit=f"from {floor}",
                cure="Free space on this disk, or lower limits.min_free_bytes; the work goes on by itself.",
            )

    @property
    def policy(self) -> Policy:
        """The policy as it stands in the file now, with what was approved."""
        return policy_in(self.folder)

    def ledger_head(self, plan: Plan) -> SealedHead | None:
        """How far the ledger goes of the data set that answers a plan, sealed; None where it has none.

        Work that was begun goes on under a policy that cannot be read: nothing is debited then.
        """
        try:
            return self.heads.sealed(self.policy.schemas.get(plan.data_schema, ""))
        except AimassError:
            return None

    def approve_task(self, task: AdmittedTask) -> None:
        """A person here admits code by name and digest."""
        known = _approvals(self.folder)
        self._approve(msgspec.structs.replace(known, tasks=tuple({*known.tasks, task})))

    def approve_study(self, study: ApprovedStudy) -> None:
        """A person here admits a study, to reserve so much; a later word on it takes the place of an earlier one."""
        known = _approvals(self.folder)
        rest = (one for one in known.studies if (one.id, one.data_set) != (study.id, study.data_set))
        self._approve(msgspec.structs.replace(known, studies=(*rest, study)))

    def _approve(self, approvals: Approvals) -> None:
        write_file(self.folder / "approvals.json", canonical_json(approvals), self.durability, "client.approvals")

    @property
    def withdrawn(self) -> bool:
        """Whether a person here has taken this partner out of the federation."""
        return self._mark.is_file()

    @property
    def _mark(self) -> Path:
        return self.folder / "withdrawn"

    def withdraw(self) -> None:
        """Take part in nothing any more, across restarts, until `come_back`."""
        write_file(
            self._mark, b"aimass client return --dir DIR takes part again\n", self.durability, "client.withdrawn"
        )

    def come_back(self) -> None:
        """Take part again."""
        self._mark.unlink(missing_ok=True)

    def check_member(self) -> None:
        """Raise `Refused` after a withdrawal."""
        if self.withdrawn:
            raise Refused(
                "this partner has withdrawn from the federation",
                code="partner.withdrawn",
                cure="Ask the root holder to revoke it; `aimass client return` there undoes it.",
            )

    def manifest(self, name: str) -> ShardManifest:
        """The data set of this name; raises `NotFound`."""
        path = self.folder / "data" / f"{name}.toml"
        if not path.is_file():
            raise NotFound("no such data set here", code="data.absent", value=name, cure="aimass client data add.")
        return read_shard_manifest(path.read_text("utf-8"), str(path))

    @property
    def secret_file(self) -> Path:
        """A file that no training child may reach."""
        return self.folder / "keys" / "identity.key"


def policy_in(folder: Path) -> Policy:
    """The policy of a partner's folder: its file, and the task digests and studies that a person there approved."""
    path = folder / "policy.toml"
    policy = read_policy(path.read_text("utf-8"), str(path))
    approved = _approvals(folder)
    studies = msgspec.structs.replace(policy.studies, approved=policy.studies.approved + approved.studies)
    return msgspec.structs.replace(policy, tasks=policy.tasks + approved.tasks, studies=studies)


def _approvals(folder: Path) -> Approvals:
    path = folder / "approvals.json"
    return decode_json(Approvals, path.read_bytes(), str(path)) if path.is_file() else Approvals()


def open_partner(folder: Path, durability: Durability, clock: Clock) -> Partner:
    """Open a partner's folder; raises the named error of whatever part is wrong."""
    settings, keeper, keys = load_home(folder), Keeper(folder, durability), load_keys(folder / "keys")
    budgets = Budgets(folder / "state" / "ledgers", durability, clock)
    policy_in(folder)  # one that cannot be read would decline every run
    make_folder(folder / "state" / "scratch")
    return Partner(
        folder,
        settings,
        keys,
        keeper,
        Journal(folder / "journal.jsonl", durability),
        ModelCache(folder / "cache", durability),
        BaseFolder(folder / "bases", durability),
        SumRecords(folder / "state" / "secagg.jsonl", durability),
        budgets,
        LedgerHeads(budgets.ledgers, keys.identity, lambda: keeper.roster.server.identity),
        RowCheck(folder / "data", budgets.ledgers.row_key_file, budgets.ledgers.check_rows),
        durability,
        Pace(settings.limits.up_bytes_per_s, clock),
        Pace(settings.limits.down_bytes_per_s, clock),
        LinkSpeed(),
    )
