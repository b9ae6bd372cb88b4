"""A crowd of partners for measuring a server: each with its own certificate and connection, many in one process.

`found` makes root, server and members without a disk's flush for each. The same file, started with arguments, is such a
process. A partner of the crowd speaks the real protocol and leaves out what would be the work of a thousand machines:
it keeps nothing, trains nothing, checks no server's or other partner's signature and no bundle. It says Hello, joins,
follows the history and signs each head, fetches the model and compares its digest, sends one contribution.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.enrolment import make_request, new_token
from aimass.privacy.keys import KeyPair, create_keys, tls_key_pem
from aimass.privacy.pki import Role
from aimass.privacy.root_store import RootStore, TokenRecord
from aimass.privacy.transcript import Chain, sign_head_seen
from aimass.privacy.trust_bundle import open_bundle
from aimass.proto.contribution import Contribution, Group, Metric
from aimass.proto.grpc_env import grpc
from aimass.proto.plan import plan_digest
from aimass.proto.secret import Secret
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.tls import TlsIdentity
from aimass.proto.transfer import FetchRequest, SubmitHeader, submit
from aimass.proto.v1 import federation_pb2 as pb
from aimass.proto.v1 import federation_pb2_grpc as rpc
from aimass.proto.values import canonical_json
from aimass.proto.wire import connect
from aimass.server.settings import template

_FETCH: Final = "/aimass.v1.Blobs/Fetch"
_AT_ONCE: Final = 32
_TENSORS: Final = 4


def model(size: int) -> bytes:
    """A first model of about `size` bytes."""
    return encode_numpy({f"layer{index}": np.zeros(size // 4 // _TENSORS, np.float32) for index in range(_TENSORS)})


def _contribution(size: int) -> bytes:
    tensors = {f"layer{index}": np.full(size // 4 // _TENSORS, 1e-3, np.float32) for index in range(_TENSORS)}
    return Contribution({"update": Group(1.0, tensors)}, {"loss": Metric(1.0, 1.0)}, {}).encode()


def found(folder: Path, partners: Sequence[str], address: str) -> None:
    """Root, the folder of a server that may start on `address`, and everybody's keys and certificates in one file."""
    root, now = RootStore.create(folder / "root", "crowd", time.time()), time.time()
    roles = {"hub": Role.SERVER, "sam": Role.SCIENTIST} | dict.fromkeys(partners, Role.PARTNER)
    hosts = {"hub": ("127.0.0.1",)}
    tokens = [new_token(name, role, root.root, now + 3600, hosts.get(name, ())) for name, role in roles.items()]
    # All tokens at once: the root's folder is for people, who make one at a time.
    root.save(msgspec.structs.replace(root.state, tokens=tuple(TokenRecord(token=token) for token in tokens)))
    keys = {name: KeyPair(ec.generate_private_key(ec.SECP256R1()), Ed25519PrivateKey.generate()) for name in roles}
    server = folder / "server"
    server.mkdir()
    keys["hub"] = create_keys(server / "keys")
    bundle = root.sign([make_request(token, keys[token.name]) for token in tokens], now)
    (server / "bundle.json").write_bytes(bundle)
    (server / "root.pem").write_bytes(root.root.to_pem())
    (server / "server.toml").write_text(template("hub", address, "127.0.0.1:0"))
    trust = open_bundle(bundle, root.root)
    certificates, roster = trust.certificates, trust.roster.digest
    members = {
        name: {
            "certificate": certificates[f"{role}/{name}"].decode(),
            "tls": tls_key_pem(keys[name].tls).reveal().decode(),
            "identity": keys[name].identity.private_bytes_raw().hex(),
            "root": root.root.certificate_pem.decode(),
            "roster": roster,
        }
        for name, role in roles.items()
        if name != "hub"
    }
    (folder / "members.json").write_text(json.dumps(members))


def identity(member: dict[str, str]) -> TlsIdentity:
    """What a member of `members.json` shows on a link."""
    return TlsIdentity(member["certificate"].encode(), Secret(member["tls"].encode()), member["root"].encode())


class _Partner:
    """One of the crowd."""

    def __init__(self, name: str, member: dict[str, str], address: str, data: bytes) -> None:
        self._name, self._roster, self._data = name, member["roster"], data
        self._key = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(member["identity"]))
        self._channel = connect(address, identity(member))
        self._call: Any = rpc.FederationStub(self._channel).Connect()
        self._chain = Chain()
        self._work: set[asyncio.Task[None]] = set()

    async def hello(self) -> None:
        """Connect with the current roster, as a daemon that was here before, until the welcome is here."""
        hello = pb.Hello(
            protocol_min=1, protocol_max=1, software="crowd", nonce=bytes(32), roster_digest=self._roster
        )  # fmt: skip
        await self._call.write(pb.FromPartner(hello=hello))
        if (await self._call.read()).WhichOneof("body") != "welcome":
            raise ConnectionError("no welcome")

    async def serve(self) -> None:
        """Take part until a run has ended."""
        while (message := await self._call.read()) is not grpc.aio.EOF:
            match message.WhichOneof("body"):
                case "invite":
                    self._chain = Chain()
                    joined = pb.Joined(
                        run_id=message.invite.run_id, plan_digest=plan_digest(message.invite.plan),
                        participant=self._name, device="none", confinement="none",
                    )  # fmt: skip
                    await self._call.write(pb.FromPartner(joined=joined))
                case "history":
                    await self._history(message.history)
                case "open_step":
                    task = asyncio.create_task(self._step(message.open_step))
                    self._work.add(task)
                    task.add_done_callback(self._work.discard)
                case "end_run":
                    return
        raise ConnectionError(await self._call.details())

    async def _history(self, history: pb.History) -> None:
        for entry in history.entries[self._chain.entries - history.first :]:
            self._chain = self._chain.extended(entry)
        seen = pb.HeadSeen(
            run_id=history.run_id, partner=self._name, entries=self._chain.entries, head=self._chain.head,
            signature=sign_head_seen(self._key, history.run_id, self._chain),
        )  # fmt: skip
        await self._call.write(pb.FromPartner(head_seen=seen))

    async def _step(self, message: pb.OpenStep) -> None:
        step = msgspec.json.decode(message.step)
        wanted, hasher = FetchRequest(digest=step["inputs"][0], run_id=message.run_id), hashlib.sha256()
        async for chunk in self._channel.unary_stream(_FETCH)(canonical_json(wanted)):
            hasher.update(chunk)
        if hasher.hexdigest() != wanted.digest:
            raise ValueError("another model")
        header = SubmitHeader(
            kind="contribution", size=len(self._data), digest=Blob(self._data).digest, run_id=message.run_id,
            step=step["index"],
        )  # fmt: skip
        await submit(self._channel, header, memoryview(self._data))


async def _crowd(folder: Path, names: Sequence[str], address: str, size: int) -> None:
    members, data = json.loads((folder / "members.json").read_text()), _contribution(size)
    partners = [_Partner(name, members[name], address, data) for name in names]
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def hello(partner: _Partner) -> None:
        async with at_once:
            await partner.hello()

    await _told("go")
    await asyncio.gather(*(hello(partner) for partner in partners))
    _say("connected")
    while True:
        await asyncio.gather(*(partner.serve() for partner in partners))
        _say("ended")


async def _told(word: str) -> None:
    _say("ready")
    if (await asyncio.to_thread(sys.stdin.readline)).strip() != word:
        sys.exit("the benchmark is gone")


def _say(word: str) -> None:
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    place, first, last, where, model_bytes = sys.argv[1:]
    everybody = json.loads((Path(place) / "members.json").read_text())
    chosen = sorted(name for name in everybody if name != "sam")[int(first) : int(last)]
    asyncio.run(_crowd(Path(place), chosen, where, int(model_bytes)))
