"""Secure aggregation on one core: what a member and the server do in an attempt, bytes up; with `--peers` Flower's too.

Times are the process's own processor seconds: other work on the machine lengthens no figure but by caches.
"""

from __future__ import annotations

import dataclasses
import gc
import hashlib
import json
import os
import secrets
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from aimass.privacy.secagg import admission, client, masks, packing, server, server_state
from aimass.privacy.secagg.client_state import ClientState, Expected, History, Kind, Limits, Member, Send, SendInput
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.masks import lane_type
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import (
    CHECK_LANES,
    bits_needed,
    centred,
    largest_of,
    quantise_block,
    rounding_draws,
    to_lanes,
)
from aimass.privacy.secagg.server_state import Phase
from aimass.privacy.secagg.unmasking import unmask
from aimass.privacy.signing import public_key
from scripts.benches.flower_peer import run_in_peers
from scripts.benches.row import Row

LARGEST: Final = largest_of(16)
_PEER: Final = Path(__file__).with_name("flower_secagg.py")


class _Random:
    """The operating system's, as in production."""

    def below(self, bound: int) -> int:
        return secrets.randbelow(bound)

    def token(self, size: int) -> bytes:
        return secrets.token_bytes(size)


class Attempt:
    """One attempt in memory: seconds that its server took, seconds of each client's masking, bytes up."""

    def __init__(self, n: int, lanes: int, dropped: int) -> None:
        self.n, self.dropped, self.lanes = n, set(range(dropped)), lanes
        self.bits = bits_needed(n, LARGEST)
        identities = {i: Ed25519PrivateKey.generate() for i in range(n)}
        keys = {i: public_key(key) for i, key in identities.items()}
        signer = Ed25519PrivateKey.generate()
        digest = bytes(32)
        self.context = RoundContext(
            run_id=bytes(16), round=0, attempt=0, model_digest=digest, plan_digest=digest, layout_digest=digest,
            roster_digest=digest, server_key=public_key(signer), profile=Profile.MALICIOUS, gamma_ppm=100_000,
            delta_ppm=100_000, min_cohort=3, bits=self.bits, lanes=lanes + CHECK_LANES, clip=1.0, scale=float(LARGEST),
            ids=tuple(range(n)),
        )  # fmt: skip
        expected = Expected(
            bytes(16), 0, digest, digest, digest, digest, lanes + CHECK_LANES, LARGEST, Profile.MALICIOUS, 100_000,
            100_000, 3,
        )  # fmt: skip
        self.random = _Random()
        self.server_s, self.mask_s, self.bytes_up = 0.0, list[float](), dict.fromkeys(range(n), 0)
        self.client_s: dict[Kind, list[float]] = {kind: [] for kind in Kind}
        drawn = np.frombuffer(secrets.token_bytes(4 * lanes), "<i4").astype(np.int64) % (2 * LARGEST + 1) - LARGEST
        self.inputs = packing.pack(to_lanes(drawn, self.bits), self.bits)
        self.values = drawn
        self.total = np.zeros(self.context.lanes, lane_type(self.bits))
        self.told: list[server_state.Deliver] = []
        self.done: server_state.Finish | None = None
        self.server, actions = server.begin(self.context, keys, signer)
        self.members: dict[int, ClientState] = {}
        for message in self._split(actions):
            member = Member(message.id, identities[message.id], keys, digest, public_key(signer), Limits())
            state, spoken = admission.start(member, expected, History(), message.data, self.random)
            self.members[message.id] = state
            self._take(message.id, spoken)

    def _split(self, actions: tuple[server_state.Action, ...]) -> list[server_state.Deliver]:
        for action in actions:
            if isinstance(action, server_state.Finish):
                self.done = action
            elif isinstance(action, server_state.Ended):
                raise SystemExit(action.fault.what)
        return [action for action in actions if isinstance(action, server_state.Deliver)]

    def _feed(self, event: server_state.Event) -> None:
        started = time.process_time()
        self.server, actions = server.apply(self.server, event)
        self.server_s += time.process_time() - started
        self.told += self._split(actions)

    def _take(self, member: int, actions: tuple[object, ...]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self.bytes_up[member] += len(action.data)
                self._feed(server_state.From(member, action.kind, action.data))
            elif isinstance(action, SendInput):
                self.bytes_up[member] += len(action.header) + len(action.payload)
                self._input(member, action)

    def _input(self, member: int, action: SendInput) -> None:
        if member in self.dropped:
            return
        started = time.process_time()
        server.check_input(self.server, member, action.header)
        found = hashlib.sha256(action.payload).digest()
        packing.add_packed(self.total, action.payload, self.bits)
        self.server_s += time.process_time() - started
        self._feed(server_state.Input(member, action.header, len(action.payload), found, padded=True))

    def run(self) -> None:
        """To the exact sum; who is dropped sends its shares and no input."""
        while self.done is None:
            if not self.told:
                self._feed(server_state.TimeUp())
                continue
            message = self.told.pop(0)
            started = time.process_time()
            state, spoken = client.receive(self.members[message.id], message.kind, message.data, self.random)
            self.client_s[message.kind].append(time.process_time() - started)
            if message.kind is Kind.DELIVERY:
                started = time.process_time()
                state, spoken = client.encoded(state, self.inputs)
                self.mask_s.append(time.process_time() - started)
            self.members[message.id] = state
            self._take(message.id, spoken)
        started = time.process_time()
        lanes = unmask(self.context, self.total, list(self.done.plus), list(self.done.minus))
        self.server_s += time.process_time() - started
        if not (centred(lanes, self.bits) == self.values * (self.n - len(self.dropped))).all():
            raise RuntimeError("the sum is not exact")
        if self.server.phase is not Phase.DONE:
            raise RuntimeError("the attempt did not end")


@dataclasses.dataclass(frozen=True, slots=True)
class Size:
    """An attempt's members and elements; neighbours and threshold as the rule proposes them."""

    n: int
    elements: int

    @property
    def name(self) -> str:
        """As the table has it."""
        return f"{self.n:,} x {self.elements / 1e6:g} M"


_FULL: Final = (Size(10, 1_000_000), Size(100, 1_000_000), Size(1000, 100_000))
_QUICK: Final = (Size(10, 100_000), Size(100, 100_000))
_GATES: Final = {(100, 1_000_000): 2.0, (1000, 100_000): 4.0}
"""Seconds of the server with a tenth lost."""
_TIMES_FLOWER: Final = 20.0
_BYTES: Final = {10: 0.626, 100: 0.724, 1000: 0.818}
"""Bytes up over float32, of a million elements and more."""
_PEER_PARTS_FROM: Final = 1000
"""From so many clients on Flower's server step takes too long: its parts are measured and counted."""


def measure(*, quick: bool, peers: bool = False) -> list[Row]:
    """The gates and the aims: processor seconds of one core, the exact sum checked in each attempt."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    times = 1 if quick else 3
    rows = _kernels(times, *((10, 1_000_000, 100_000) if quick else (10, 25_000_000, 1_000_000)), quick=quick)
    for size in _QUICK if quick else _FULL:
        rows += _attempts(size, 1 if size.n >= _PEER_PARTS_FROM else times, quick=quick, peers=peers)
    rows.append(Row.of("peak memory / accumulator", [peak_of_server()], "x", 1 + 2 * 23 / 32, "lower"))
    return rows


def _kernels(times: int, n: int, large: int, small: int, *, quick: bool) -> list[Row]:
    """Masking and packing alone, and the cipher's floor."""
    hundred = [masked(100, small)[0] for _ in range(times)]
    wide = [masked(n, large) for _ in range(times)]
    floor = median(repeated(times, lambda: fused_floor(large)))
    return [
        Row.of(f"mask+pack 100 x {small / 1e6:g} M", hundred, "s", None if quick else 0.18, "lower"),
        Row.of(f"mask+pack {n} x {large / 1e6:g} M", [took for took, _ in wide], "s", None if quick else 1.0, "lower"),
        Row.of("a mask's stream", [speed for _, speed in wide], "GB/s", floor / 2, "higher"),
    ]


def _attempts(size: Size, times: int, *, quick: bool, peers: bool) -> list[Row]:
    """A size with nobody lost and with a tenth lost, ours beside Flower's."""
    rows = []
    for lost in (0, size.n // 10):
        ours = [attempt(size.n, size.elements, lost) for _ in range(times)]
        parts = quick or not lost or size.n >= _PEER_PARTS_FROM
        flower = _flower(ours[0], parts=parts) if peers else None
        told = f"{size.name}, {'10 % lost' if lost else 'none lost'}"
        gate = _GATES.get((size.n, size.elements)) if lost else None
        server_s = [made.server_s for made in ours]
        rows.append(_beside(f"server {told}", server_s, "s", gate, flower.server_s if flower else None))
        if not lost:
            rows += _client(size, ours, flower)
        elif flower is not None and not quick:
            aim = _TIMES_FLOWER if size.n == 100 else None
            rows.append(Row.ratio(f"Flower / ours, server {told}", [flower.server_s], server_s, aim, "higher"))
    return rows


def _client(size: Size, ours: list[Attempt], flower: Flower | None) -> list[Row]:
    """What one member does, of all members the median; its input from the update's floats to the bytes that leave."""
    encoding = median(repeated(3, lambda: quantised(size.elements, ours[0].bits)))
    shared = [median(made.client_s[Kind.ROSTER]) + median(made.client_s[Kind.SEEDS] or [0.0]) for made in ours]
    inputs = [median(made.mask_s) + median(made.client_s[Kind.DELIVERY]) + encoding for made in ours]
    up = max(ours[0].bytes_up.values()) / (4 * size.elements)
    gate = _BYTES.get(size.n, 0) * 1.005 if size.elements >= 1_000_000 else None
    theirs = flower.bytes_up / (4 * size.elements) if flower else None
    return [
        _beside(f"client shares {size.name}", shared, "s", None, flower.share_s if flower else None),
        _beside(f"client input {size.name}", inputs, "s", None, flower.input_s if flower else None),
        _beside(f"bytes up / float32 {size.name}", [up], "x", gate, theirs),
    ]


def _beside(metric: str, values: list[float], unit: str, target: float | None, peer: float | None) -> Row:
    return dataclasses.replace(Row.of(metric, values, unit, target, "lower"), peer=peer)


@dataclasses.dataclass(frozen=True, slots=True)
class Flower:
    """SecAgg+ by Flower's own code: processor seconds of a client's stages and of the server, a client's bytes up."""

    share_s: float
    input_s: float
    server_s: float
    bytes_up: int


def _flower(made: Attempt, *, parts: bool) -> Flower:
    """The same clients, elements, neighbours and threshold, in the peers' environment, on this core."""
    roster = made.server.roster
    assert roster is not None
    arguments = (made.n, made.lanes, roster.k, roster.t, len(made.dropped))
    found = json.loads(run_in_peers(_PEER, *map(str, arguments), *(["--parts"] if parts else [])))
    sys.stderr.write(f"secagg: Flower, {made.n} clients: {found}\n")
    client = found["client"]
    return Flower(client["share"], client["input"], found["parts"]["server"], found["bytes_up"])


# ------------------------------------------------------------------- kernels


def quantised(elements: int, bits: int) -> float:
    """Seconds that an update's float32 take to lanes."""
    update = np.random.default_rng(0).uniform(-1, 1, elements).astype(np.float32)
    into, draws, block = np.empty(elements, lane_type(bits)), rounding_draws(secrets.token_bytes(16)), 1 << 15
    started = time.process_time()
    for start in range(0, elements, block):
        values = update[start : start + block].astype(np.float64)
        into[start : start + block] = to_lanes(quantise_block(values, float(LARGEST), LARGEST, draws, "w"), bits)
    return time.process_time() - started


def masked(n: int, lanes: int) -> tuple[float, float]:
    """Seconds that one member takes to mask and pack; the lanes' bytes that its streams have, by second, in GB."""
    bits = bits_needed(n, LARGEST)
    vector = np.zeros(lanes, lane_type(bits))
    keys = [secrets.token_bytes(16) for _ in range(n)]
    started = time.process_time()
    masks.add_masks(vector, keys[: n // 2], keys[n // 2 :])
    streamed = time.process_time() - started
    masks.cut(vector, bits)
    packing.pack(vector, bits)
    return time.process_time() - started, n * vector.nbytes / streamed / 1e9


def fused_floor(lanes: int) -> float:
    """GB a second of AES-CTR and an add in one block that stays in the cache, without anything of ours around it."""
    vector, block = np.ones(lanes, "<u4"), 1 << 16
    context = Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor()
    zeros, into = bytes(4 * block), bytearray(4 * block + 15)
    drawn = np.frombuffer(into, "<u4", block)
    started = time.process_time()
    for start in range(0, lanes - block + 1, block):
        context.update_into(zeros, into)
        vector[start : start + block] += drawn
    return 4 * (lanes // block * block) / (time.process_time() - started) / 1e9


def repeated(times: int, work: Callable[[], float]) -> list[float]:
    found = []
    for _ in range(times):
        gc.collect()
        found.append(work())
    return found


def attempt(n: int, lanes: int, dropped: int) -> Attempt:
    made = Attempt(n, lanes, dropped)
    made.run()
    sys.stderr.write(f"secagg: {n} members, {lanes} lanes: server {made.server_s:.2f} s\n")
    return made


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def peak_of_server() -> float:
    """What unpacking, adding and unmasking allocate beside the accumulator, as a multiple of it."""
    count, bits = 4_000_000, 23
    total = np.zeros(count, lane_type(bits))
    payload = packing.pack(total, bits)
    tracemalloc.start()
    packing.add_packed(total, payload, bits)
    masks.add_masks(total, [bytes(16)], [bytes(range(16))])
    masks.cut(total, bits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return 1 + peak / total.nbytes
