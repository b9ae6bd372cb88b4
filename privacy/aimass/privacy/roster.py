"""The roster: who is in the federation, in one byte format that the root signs.

`"AIMass roster v1" 00 | u64 epoch | u32 count | entries sorted by id`, an entry being
`u32 id | u8 role | u16 length | UTF-8 name | 32-byte identity key | 32-byte SHA-256 of the TLS public key info`,
integers big-endian; its digest is the SHA-256 of these bytes.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import re
import struct
from collections.abc import Iterable
from functools import cached_property
from typing import Final

from aimass.privacy.signing import check_public_key
from aimass.proto.errors import BadInput, IntegrityError, NotFound

__all__ = ["Change", "Member", "MemberRole", "Roster", "compare", "decode_roster"]

_MAGIC: Final = b"AIMass roster v1\0"
_HEAD: Final = struct.Struct(">QI")
_ENTRY: Final = struct.Struct(">IBH")
MAX_MEMBERS: Final = 100_000
NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


class MemberRole(enum.IntEnum):
    """Role of a roster member. There is exactly one server."""

    PARTNER = 0
    SERVER = 1


@dataclasses.dataclass(frozen=True, slots=True)
class Member:
    """One entry."""

    id: int
    role: MemberRole
    name: str
    identity: bytes
    tls_sha256: bytes


@dataclasses.dataclass(frozen=True)
class Roster:
    """Members by ascending id at an epoch."""

    epoch: int
    members: tuple[Member, ...]

    @cached_property
    def data(self) -> bytes:
        """The canonical bytes."""
        parts = [_MAGIC, _HEAD.pack(self.epoch, len(self.members))]
        for member in self.members:
            name = member.name.encode()
            parts += [_ENTRY.pack(member.id, member.role, len(name)), name, member.identity, member.tls_sha256]
        return b"".join(parts)

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the bytes in hexadecimal."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def by_name(self) -> dict[str, Member]:
        """Members by name."""
        return {member.name: member for member in self.members}

    @cached_property
    def partners(self) -> tuple[str, ...]:
        """Names of all partners, sorted."""
        return tuple(sorted(member.name for member in self.members if member.role is MemberRole.PARTNER))

    @property
    def server(self) -> Member:
        """The one server; raises `NotFound` before it has enrolled."""
        for member in self.members:
            if member.role is MemberRole.SERVER:
                return member
        raise NotFound("the roster has no server", code="roster.no_server", cure="Enrol the server first.")

    @staticmethod
    def of(epoch: int, members: Iterable[Member]) -> Roster:
        """A checked roster; raises `BadInput` for names, ids or keys that stand twice, or two servers."""
        ordered = tuple(sorted(members, key=lambda member: member.id))
        for what, values in (
            ("id", [member.id for member in ordered]),
            ("name", [member.name for member in ordered]),
            ("identity key", [member.identity for member in ordered]),
            ("TLS key", [member.tls_sha256 for member in ordered]),
        ):
            if len(set(values)) != len(values):
                raise _bad(f"two members share one {what}", "twice")
        if sum(member.role is MemberRole.SERVER for member in ordered) > 1:
            raise _bad("more than one server", "servers")
        for member in ordered:
            if not NAME.fullmatch(member.name):
                raise _bad("a name is not allowed", "name", ascii(member.name))
            check_public_key(member.identity)
        return Roster(epoch, ordered)


def _bad(what: str, code: str, value: object = None) -> BadInput:
    return BadInput(f"the roster is not valid: {what}", code=f"roster.{code}", value=value)


def decode_roster(data: bytes) -> Roster:
    """Strictly decode a roster's bytes; raises `BadInput` for anything but their one form."""
    if not data.startswith(_MAGIC) or len(data) < len(_MAGIC) + _HEAD.size:
        raise _bad("it does not begin as a roster", "magic")
    epoch, count = _HEAD.unpack_from(data, len(_MAGIC))
    if count > MAX_MEMBERS:
        raise _bad("too many members", "count", count)
    offset = len(_MAGIC) + _HEAD.size
    members = []
    for _ in range(count):
        member, offset = _decode_member(data, offset)
        members.append(member)
    if offset != len(data):
        raise _bad("bytes follow its last member", "trailing", len(data) - offset)
    roster = Roster.of(epoch, members)
    if roster.data != data:
        raise _bad("its members are not in order", "order")
    return roster


def _decode_member(data: bytes, offset: int) -> tuple[Member, int]:
    try:
        identifier, role, length = _ENTRY.unpack_from(data, offset)
        start = offset + _ENTRY.size
        stop = start + length + 64
        name = data[start : start + length].decode("ascii")
        if stop > len(data):
            raise _bad("it ends inside a member", "short")
        return Member(identifier, MemberRole(role), name, data[stop - 64 : stop - 32], data[stop - 32 : stop]), stop
    except (struct.error, ValueError) as error:
        raise _bad("a member cannot be read", "member") from error


class Change(enum.Enum):
    """What an offered roster means to the holder of another."""

    SAME = "same"
    ONLY_REMOVALS = "only removals"
    NEEDS_APPROVAL = "needs approval"


def compare(held: Roster, offered: Roster) -> Change:
    """How to take an offered roster whose root signature was verified.

    Raises `IntegrityError` for an older epoch and for other content at the epoch that is held.
    """
    if offered.epoch < held.epoch:
        raise IntegrityError(
            "an older roster was offered",
            code="roster.older",
            value=offered.epoch,
            limit=held.epoch,
            cure="Ask the root holder which roster is current.",
        )
    if offered.epoch == held.epoch:
        if offered.digest != held.digest:
            raise IntegrityError(
                "another roster of the same epoch was offered",
                code="roster.forked",
                value=offered.digest,
                limit=held.digest,
                cure="Somebody was shown another federation: ask the root holder.",
            )
        return Change.SAME
    return Change.ONLY_REMOVALS if set(offered.members) <= set(held.members) else Change.NEEDS_APPROVAL
