"""The end-to-end vector of the protocol, played by the machines themselves: three members, the second drops out.

Its server key has no secret and its vector no check lanes, so admission and encoding are passed by; all else is as in
production. Every draw is a hash of a name, so that another implementation can repeat it.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from aimass.privacy.secagg import admission, client, client_state, masks, packing, server, server_state
from aimass.privacy.secagg import attempt as shared
from aimass.privacy.secagg.client_state import ClientState, Kind, Limits, Member, Record, Secrets, Send
from aimass.privacy.secagg.codec import u32
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.field import P, encode_scalar
from aimass.privacy.secagg.labels import Name
from aimass.privacy.secagg.messages import MaskedInput, ShareKeys
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import centred
from aimass.privacy.signing import public_key

INPUTS = {0: (1, -2, 3, -4, 5, -6, 7, -8), 1: (100,) * 8, 2: (-1000, 2000, -3000, 4000, 0, 0, 0, 1)}
DROPS = 1


def sha(data: str | bytes) -> bytes:
    return hashlib.sha256(data.encode() if isinstance(data, str) else data).digest()


class Named:
    """Each draw is the hash of its name; the polynomials' coefficients count from 0."""

    def __init__(self, member: int) -> None:
        self._pre = f"det{member}".encode()
        self._scalars = [self.scalar(b"cs" + u32(0)), self.scalar(b"cb" + u32(0))]
        self._tokens = [sha(f"n{member}-{other}")[:12] for other in range(3) if other != member]

    def scalar(self, name: bytes) -> int:
        return int.from_bytes(sha(self._pre + name), "big") % P

    def secrets(self) -> Secrets:
        return Secrets(sha(self._pre + b"E"), self.scalar(b"S"), self.scalar(b"B"), b"")

    def below(self, bound: int) -> int:
        return self._scalars.pop(0)

    def token(self, size: int) -> bytes:
        return self._tokens.pop(0)


def context() -> RoundContext:
    return RoundContext(
        run_id=bytes(range(16)), round=7, attempt=0, model_digest=sha("model"), plan_digest=sha("plan"),
        layout_digest=sha("layout"), roster_digest=sha("roster"), server_key=sha("server"), profile=Profile.MALICIOUS,
        gamma_ppm=0, delta_ppm=333_333, min_cohort=2, bits=20, lanes=8, clip=1.0, scale=1024.0, ids=(0, 1, 2),
    )  # fmt: skip


def play() -> dict[str, object]:
    """Every secret, message and digest of the attempt, by name, in hex."""
    rc, keys = context(), [Ed25519PrivateKey.from_private_bytes(sha(f"id{i}")) for i in range(3)]
    pinned = {i: public_key(key) for i, key in enumerate(keys)}
    table, _ = server.begin(rc, pinned, Ed25519PrivateKey.from_private_bytes(sha("unused")))
    states: dict[int, ClientState] = {}
    draws = {i: Named(i) for i in range(3)}
    told: list[server_state.Action] = []
    sent: dict[str, dict[str, str]] = {}

    def to_server(event: server_state.Event) -> None:
        nonlocal table
        table, actions = server.apply(table, event)
        told.extend(actions)
        if isinstance(event, server_state.From):
            sent.setdefault(event.kind, {})[str(event.id)] = event.data.hex()

    def deliver(*silent: int) -> None:
        for message in [action for action in told if isinstance(action, server_state.Deliver)]:
            told.remove(message)
            sent.setdefault(message.kind, {})[str(message.id)] = message.data.hex()
            if message.id not in silent:
                states[message.id], actions = client.receive(
                    states[message.id], message.kind, message.data, draws[message.id]
                )
                for action in actions:
                    if isinstance(action, Send):
                        to_server(server_state.From(message.id, action.kind, action.data))

    for i in range(3):
        member = Member(i, keys[i], pinned, sha("roster"), sha("server"), Limits(min_cohort=2))
        secrets = draws[i].secrets()
        ad = admission._advertise(member, rc, secrets)
        record = Record(rc.run_id, rc.round, rc.attempt, client_state.Phase.ADVERTISED, rc.ctx, rc.model_digest)
        states[i] = ClientState(client_state.Phase.ADVERTISED, member, rc, record, secrets, ad)
        to_server(server_state.From(i, Kind.ADVERTISE, ad.data))
    deliver()
    deliver()
    attempt = table.attempt
    assert attempt is not None
    payloads = {}
    for i in sorted(set(INPUTS) - {DROPS}):
        lanes = np.array(INPUTS[i], np.int64).astype("<u4")
        masks.cut(lanes, rc.bits)
        payloads[i] = bytes(client._masked(states[i], [lanes], bytearray))
        body = MaskedInput.signed(attempt.sid, i, attempt.set_digest(Name.SHARERS, table.sharers), sha(payloads[i]))
        header = MaskedInput(
            attempt.sid, i, attempt.set_digest(Name.SHARERS, table.sharers), len(payloads[i]), sha(payloads[i]),
            shared.sign(keys[i], Name.INPUT, body),
        )  # fmt: skip
        states[i] = dataclasses.replace(states[i], phase=client_state.Phase.MASKED)
        to_server(server_state.Input(i, header.data, len(payloads[i]), sha(payloads[i]), padded=True))
        sent.setdefault(Kind.INPUT, {})[str(i)] = header.data.hex()
    to_server(server_state.TimeUp())
    deliver(DROPS)
    deliver(DROPS)
    finish = next(action for action in told if isinstance(action, server_state.Finish))
    total = np.zeros(rc.lanes, "<u4")
    for payload in payloads.values():
        packing.add_packed(total, payload, rc.bits)
    masks.add_masks(total, finish.minus, finish.plus)
    masks.cut(total, rc.bits)
    first = ShareKeys.decode(bytes.fromhex(sent[Kind.SHARES]["0"]), 2)
    return {
        "context": rc.data.hex(),
        "ctx": rc.ctx.hex(),
        "roster": attempt.roster_digest.hex(),
        "perm_seed": attempt.permutation_seed.hex(),
        "sid": attempt.sid.hex(),
        "sharers_digest": attempt.set_digest(Name.SHARERS, table.sharers).hex(),
        "survivors_digest": attempt.set_digest(Name.SURVIVORS, table.survivors).hex(),
        "self_commit_0": first.self_commit.hex(),
        "box_0_1": first.boxes[0][1].hex(),
        "identity_secrets": {str(i): sha(f"id{i}").hex() for i in range(3)},
        "encryption_secrets": {str(i): Named(i).secrets().encryption.hex() for i in range(3)},
        "mask_seeds": {str(i): encode_scalar(Named(i).secrets().mask_seed).hex() for i in range(3)},
        "self_seeds": {str(i): encode_scalar(Named(i).secrets().self_seed).hex() for i in range(3)},
        "inputs": {str(i): list(values) for i, values in INPUTS.items()},
        "payloads": {str(i): payload.hex() for i, payload in payloads.items()},
        "messages": {str(kind): by for kind, by in sent.items()},
        "mask_keys_added": [key.hex() for key in finish.plus],
        "mask_keys_subtracted": [key.hex() for key in finish.minus],
        "survivors": list(finish.survivors),
        "sum": centred(total, rc.bits).tolist(),
    }
