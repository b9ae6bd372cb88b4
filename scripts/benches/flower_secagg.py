"""Flower's SecAgg+ by its own code, in the peers' environment: seconds of one client and of the server, bytes up.

The functions are those that `secaggplus_mod` and `SecAggPlusWorkflow` call in a round; links, records and serialisation
of messages are left out, as they are in our figures. All clients share one pair of secrets, so that a hundred clients
need no hundred times the work of one; the server's work does not depend on what the secrets are.

    python flower_secagg.py CLIENTS ELEMENTS NEIGHBOURS THRESHOLD DROPPED [--parts]

With `--parts` the server's step is not run: its parts are, and their times are multiplied by how often it does them.
"""

# mypy: ignore-errors
# ruff: noqa: SLF001

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from flwr.app import ConfigRecord, RecordDict
from flwr.common import ndarrays_to_parameters
from flwr.common.secure_aggregation.crypto.shamir import combine_shares, create_shares
from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
from flwr.common.secure_aggregation.quantization import quantize
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key
from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen
from flwr.supercore.primitives.asymmetric import generate_key_pairs, private_key_to_bytes, public_key_to_bytes

mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")  # a function has its name
workflow = importlib.import_module("flwr.server.workflow.secure_aggregation.secaggplus_workflow")
CLIP, TARGET, MODULUS, MAX_WEIGHT = 8.0, 1 << 22, 1 << 32, 1000.0
"""The workflow's defaults."""


class Federation:
    """Clients in a ring, as the workflow deals them, and what each of them would send."""

    def __init__(self, n: int, elements: int, neighbours: int, threshold: int, dropped: int) -> None:
        self.n, self.elements, self.shares, self.threshold = n, elements, neighbours + 1, threshold
        self.ids = list(range(1, n + 1))
        self.dropped = set(random.Random(0).sample(self.ids, dropped))
        half = self.shares >> 1
        self.near = {
            node: {self.ids[(index + offset) % n] for offset in range(-half, half + 1)}
            for index, node in enumerate(self.ids)
        }
        pairs = [generate_key_pairs() for _ in range(2)]
        self.secrets = [private_key_to_bytes(secret) for secret, _ in pairs]
        self.public = [public_key_to_bytes(public) for _, public in pairs]
        self.client_s: dict[str, float] = {}
        self.bytes_up = 0
        self.masked: list[bytes] = []

    def one_client(self) -> None:
        """All of a client's stages, timed one by one."""
        me, near = 1, sorted(self.near[1])
        state = mod.SecAggPlusState()
        setup = {
            Key.SAMPLE_NUMBER: self.n, Key.SHARE_NUMBER: self.shares, Key.THRESHOLD: self.threshold,
            Key.CLIPPING_RANGE: CLIP, Key.TARGET_RANGE: TARGET, Key.MOD_RANGE: MODULUS, Key.MAX_WEIGHT: MAX_WEIGHT,
        }  # fmt: skip
        state.nid = me
        self._time("setup", lambda: mod._setup(state, setup))
        keys = {}
        for node in near:
            pairs = [generate_key_pairs() for _ in range(2)]
            keys[str(node)] = tuple(public_key_to_bytes(public) for _, public in pairs)
        keys[str(me)] = (state.pk1, state.pk2)
        shared = self._time("share", lambda: mod._share_keys(state, keys))
        # What the others send has the form of what this one sends; each is under the key of the pair.
        sent = [
            mod.encrypt(state.ss2_dict[other], mod.share_keys_plaintext_concat(other, me, b"b" * 52, b"s" * 260))
            for other in near
            if other != me
        ]
        others = {Key.CIPHERTEXT_LIST: sent, Key.SOURCE_LIST: [other for other in near if other != me]}
        update = ndarrays_to_parameters([np.random.default_rng(0).uniform(-1, 1, self.elements).astype(np.float32)])
        given = self._time("input", lambda: mod._collect_masked_vectors(state, others, 10, update))
        lost = set(near) & self.dropped
        asked = {Key.ACTIVE_NODE_ID_LIST: sorted(set(near) - lost), Key.DEAD_NODE_ID_LIST: sorted(lost)}
        told = self._time("unmask", lambda: mod._unmask(state, asked))
        self.masked = given[Key.MASKED_PARAMETERS]
        payloads = [state.pk1, state.pk2, *shared[Key.CIPHERTEXT_LIST], *self.masked, *told[Key.SHARE_LIST]]
        self.bytes_up = sum(len(one) for one in payloads)

    def _time(self, name: str, work: Any) -> Any:
        started = time.process_time()
        done = work()
        self.client_s[name] = time.process_time() - started
        return done

    # ---------------------------------------------------------------- the server

    def server(self) -> float:
        """Seconds of the workflow's two last stages, without those in which it waits for clients."""
        shares = [create_shares(secret, self.threshold, self.shares) for secret in (b"r" * 32, self.secrets[0])]
        flow = workflow.SecAggPlusWorkflow(self.shares, self.threshold, max_weight=MAX_WEIGHT)
        state = workflow.WorkflowState(
            active_node_ids=set(self.ids) - self.dropped, sampled_node_ids=set(self.ids), num_shares=self.shares,
            threshold=self.threshold, clipping_range=CLIP, quantization_range=TARGET, mod_range=MODULUS,
            max_weight=MAX_WEIGHT, nid_to_neighbours={node: set(near) for node, near in self.near.items()},
            nid_to_publickeys=dict.fromkeys(self.ids, self.public),
        )  # fmt: skip
        state.forward_ciphertexts = state.forward_srcs = {node: [] for node in self.ids}
        state.nid_to_fitins = {node: RecordDict() for node in self.ids}
        state.nid_to_proxies = dict.fromkeys(self.ids)
        config = {workflow.MAIN_CONFIGS_RECORD: {workflow.WorkflowKey.CURRENT_ROUND: 1}}
        context = SimpleNamespace(
            state=SimpleNamespace(config_records=config, array_records={}),
            strategy=SimpleNamespace(aggregate_fit=lambda *_: (None, {})),
        )
        grid = Grid(self, shares)
        workflow.Message = lambda content, dst_node_id, **_: SimpleNamespace(content=content, dst=dst_node_id)
        workflow.compat.recorddict_to_fitres = lambda *_: SimpleNamespace(parameters=None)
        started = time.process_time()
        if not flow.collect_masked_vectors_stage(grid, context, state) or not flow.unmask_stage(grid, context, state):
            raise RuntimeError("the workflow gave up")
        return time.process_time() - started - grid.waited

    def parts(self) -> dict[str, float]:
        """Median seconds of each part of the server's step, and what they come to."""
        alive = self.n - len(self.dropped)
        there = round(self.shares * alive / self.n)  # all that came are used, not only as many as are needed
        seeds, keys = (create_shares(one, self.threshold, self.shares)[:there] for one in (b"r" * 32, self.secrets[0]))
        vector = [np.zeros(1, np.int64), np.ones(self.elements, np.int64)]
        shapes = [one.shape for one in vector]
        drawn = pseudo_rand_gen(b"r" * 32, MODULUS, shapes)
        found = {
            "combine_seed": median(lambda: combine_shares(seeds)),
            "combine_key": median(lambda: combine_shares(keys), 1),
            "quantise": median(lambda: quantize([np.zeros(self.elements, np.float32)], CLIP, TARGET)),
            "mask": median(lambda: pseudo_rand_gen(b"r" * 32, MODULUS, shapes)),
            "add": median(lambda: parameters_addition(vector, drawn)),
        }
        combining = alive * found["combine_seed"] + (self.n - alive) * found["combine_key"]
        streams = alive + (self.n - alive) * (self.shares - 1)
        found["server"] = alive * found["add"] + combining + streams * (found["mask"] + found["add"])
        return found


class Grid:
    """Answers for the clients at once, and counts the seconds that this takes."""

    def __init__(self, federation: Federation, shares: Sequence[Sequence[bytes]]) -> None:
        self._federation, self._shares = federation, shares
        self.waited = 0.0

    def send_and_receive(self, messages: Sequence[Any], timeout: float | None = None) -> list[Any]:
        started = time.process_time()
        replies = [self._reply(message) for message in messages]
        self.waited += time.process_time() - started
        return [reply for reply in replies if reply is not None]

    def _reply(self, message: Any) -> Any:
        node, asked = message.dst, message.content.config_records[RECORD_KEY_CONFIGS]
        if node in self._federation.dropped:
            return None
        if Key.CIPHERTEXT_LIST in asked:
            answer = {Key.MASKED_PARAMETERS: self._federation.masked}
        else:
            active, dead = asked[Key.ACTIVE_NODE_ID_LIST], asked[Key.DEAD_NODE_ID_LIST]
            answer = {
                Key.NODE_ID_LIST: [*active, *dead],
                Key.SHARE_LIST: [
                    *(self._shares[0][self._place(node, dealer)] for dealer in active),
                    *(self._shares[1][self._place(node, dealer)] for dealer in dead),
                ],
            }
        content = RecordDict({RECORD_KEY_CONFIGS: ConfigRecord(answer)})
        return SimpleNamespace(content=content, metadata=SimpleNamespace(src_node_id=node), has_error=lambda: False)

    def _place(self, holder: int, dealer: int) -> int:
        """Which of a dealer's shares a holder has."""
        return (holder - dealer + (self._federation.shares >> 1)) % self._federation.n


def median(work: Any, times: int = 3) -> float:
    found = []
    for _ in range(times):
        started = time.process_time()
        work()
        found.append(time.process_time() - started)
    return sorted(found)[times // 2]


def main() -> None:
    os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
    n, elements, neighbours, threshold, dropped = map(int, sys.argv[1:6])
    federation = Federation(n, elements, neighbours, threshold, dropped)
    federation.one_client()
    parts = federation.parts()
    if "--parts" not in sys.argv:
        parts["server"] = federation.server()
    sys.stdout.write(
        json.dumps({"client": federation.client_s, "bytes_up": federation.bytes_up, "parts": parts}) + "\n"
    )


if __name__ == "__main__":
    main()
