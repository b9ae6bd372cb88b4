"""Secure aggregation on one core: masking and packing, the server's part of an attempt, and what goes over the wire."""

from __future__ import annotations

import gc
import hashlib
import secrets
import sys
import time
import tracemalloc
from collections.abc import Callable
from typing import Final

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from aimass.privacy.secagg import admission, client, masks, packing, server, server_state
from aimass.privacy.secagg.client_state import ClientState, Expected, History, Kind, Limits, Member, Send, SendInput
from aimass.privacy.secagg.context import RoundContext
from aimass.privacy.secagg.masks import lane_type
from aimass.privacy.secagg.parameters import Profile
from aimass.privacy.secagg.quantise import CHECK_LANES, bits_needed, centred, largest_of, to_lanes
from aimass.privacy.secagg.server_state import Phase
from aimass.privacy.secagg.unmasking import unmask
from aimass.privacy.signing import public_key
from scripts.benches.row import Row

LARGEST: Final = largest_of(16)


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
        drawn = np.frombuffer(secrets.token_bytes(4 * lanes), "<i4").astype(np.int64) % (2 * LARGEST + 1) - LARGEST
        self.inputs = to_lanes(drawn, self.bits)
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
        started = time.perf_counter()
        self.server, actions = server.apply(self.server, event)
        self.server_s += time.perf_counter() - started
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
        started = time.perf_counter()
        server.check_input(self.server, member, action.header)
        found = hashlib.sha256(action.payload).digest()
        packing.add_packed(self.total, action.payload, self.bits)
        self.server_s += time.perf_counter() - started
        self._feed(server_state.Input(member, action.header, len(action.payload), found, padded=True))

    def run(self) -> None:
        """To the exact sum; who is dropped sends its shares and no input."""
        while self.done is None:
            if not self.told:
                self._feed(server_state.TimeUp())
                continue
            message = self.told.pop(0)
            state, spoken = client.receive(self.members[message.id], message.kind, message.data, self.random)
            if message.kind is Kind.DELIVERY:
                started = time.perf_counter()
                state, spoken = client.encoded(state, self.inputs)
                self.mask_s.append(time.perf_counter() - started)
            self.members[message.id] = state
            self._take(message.id, spoken)
        started = time.perf_counter()
        lanes = unmask(self.context, self.total, list(self.done.plus), list(self.done.minus))
        self.server_s += time.perf_counter() - started
        if not (centred(lanes, self.bits) == self.values * (self.n - len(self.dropped))).all():
            raise RuntimeError("the sum is not exact")
        if self.server.phase is not Phase.DONE:
            raise RuntimeError("the attempt did not end")


def masked(n: int, lanes: int) -> tuple[float, float]:
    """Seconds that one member takes to mask and pack; the lanes' bytes that its streams have, by second, in GB."""
    bits = bits_needed(n, LARGEST)
    vector = np.zeros(lanes, lane_type(bits))
    keys = [secrets.token_bytes(16) for _ in range(n)]
    started = time.perf_counter()
    masks.add_masks(vector, keys[: n // 2], keys[n // 2 :])
    streamed = time.perf_counter() - started
    masks.cut(vector, bits)
    packing.pack(vector, bits)
    return time.perf_counter() - started, n * vector.nbytes / streamed / 1e9


def fused_floor(lanes: int) -> float:
    """GB a second of AES-CTR and an add in one block that stays in the cache, without anything of ours around it."""
    vector, block = np.ones(lanes, "<u4"), 1 << 16
    context = Cipher(algorithms.AES(bytes(16)), modes.CTR(bytes(16))).encryptor()
    zeros, into = bytes(4 * block), bytearray(4 * block + 15)
    drawn = np.frombuffer(into, "<u4", block)
    started = time.perf_counter()
    for start in range(0, lanes - block + 1, block):
        context.update_into(zeros, into)
        vector[start : start + block] += drawn
    return 4 * (lanes // block * block) / (time.perf_counter() - started) / 1e9


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


def measure(*, quick: bool) -> list[Row]:
    """The gates: seconds of one core, the exact sum checked in each run; bytes up over plain float32."""
    times = 1 if quick else 3
    hundred = [attempt(100, 1_000_000, 10) for _ in range(times)]
    thousand = [attempt(1000, 100_000, 100)]  # minutes: each of the members verifies all the others
    ten = attempt(10, 1_000_000, 1)
    small = [masked(100, 1_000_000)[0] for _ in range(times)]
    large = [masked(10, 25_000_000) for _ in range(times)]
    floors = repeated(times, lambda: fused_floor(25_000_000))
    rows = [
        Row.of("mask+pack 100 x 1 M", small, "s", 0.18, "lower"),
        Row.of("mask+pack 10 x 25 M", [seconds for seconds, _ in large], "s", 1.0, "lower"),
        Row.of("stream over AES floor", [speed for _, speed in large], "GB/s", median(floors) / 2, "higher"),
        Row.of("client input 100 x 1 M", [median(made.mask_s) for made in hundred], "s", None, "lower"),
        Row.of("server 100 x 1 M, 10 % lost", [made.server_s for made in hundred], "s", 2.0, "lower"),
        Row.of("server 1000 x 0.1 M ring", [made.server_s for made in thousand], "s", 4.0, "lower"),
    ]
    for made, target in ((ten, 0.626), (hundred[0], 0.724)):
        share = max(made.bytes_up.values()) / (4 * made.lanes)
        rows.append(Row.of(f"bytes up / float32, n={made.n}", [share], "x", target * 1.005, "lower"))
    rows.append(Row.of("peak memory / accumulator", [peak_of_server()], "x", None, "lower"))
    return rows


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
