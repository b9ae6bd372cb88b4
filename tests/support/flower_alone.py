"""Flower alone: an app of tests/flower_apps in one process, against a grid of a few lines. The oracle of the real one.

Run as `python -m tests.support.flower_alone APP SEED [KEY=VALUE ...]` it prints the final arrays as JSON.
"""

from __future__ import annotations

import copy
import json
import random
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from aimass.proto.app_config import parse_config
from aimass.proto.apps import override, read_app
from aimass.proto.flower import private
from aimass.proto.flower.names import Context, Grid, Message, RecordDict
from aimass.proto.flower.records import Told, node_id_of
from tests.support.flower_house import APPS, VALUES


class Alone(Grid):  # type: ignore[misc]  # (flwr is not followed)
    """Every node in this process, asked one after the other."""

    run = None

    def __init__(self, client: Any, config: dict[str, Any]) -> None:
        self._client = client
        self._nodes = {
            node_id_of(name): Context(1, node_id_of(name), {"value": value, "weight": 10 * value}, RecordDict(), config)
            for name, value in VALUES.items()
        }

    def set_run(self, run: Any) -> None:
        raise NotImplementedError

    def create_message(self, *_: Any, **__: Any) -> Message:
        raise NotImplementedError

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        raise NotImplementedError

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        raise NotImplementedError

    def get_node_ids(self) -> list[int]:
        return [node_id_of(name) for name in sorted(VALUES)]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        return list(self._replies(messages))

    def _replies(self, messages: Iterable[Message]) -> Iterator[Message]:
        for number, message in enumerate(messages):
            about, node = message.metadata, message.metadata.dst_node_id
            content = copy.deepcopy(message.content)
            private.identify(1, node)
            yield self._client(
                private.instruction(Told(about.message_type, content, about.group_id), 1, node, str(number)),
                self._nodes[node],
            )
            private.identify(1, private.SERVER_NODE)


def main() -> None:
    from flwr.serverapp.strategy import Strategy

    name, seed, *values = sys.argv[1:]
    app = read_app(APPS / name)
    config = override(app, parse_config(values, "the values"))
    private.identify(1, private.SERVER_NODE)
    client, server = (
        load(reference, Path(app.folder))
        for load, reference in (
            (private.load_client_app, app.client_app), (private.load_server_part, app.server_app)
        )
    )  # fmt: skip
    results: list[Any] = []
    start = Strategy.start

    def started(self: Strategy, *args: Any, **kwargs: Any) -> Any:
        results.append(start(self, *args, **kwargs))
        return results[-1]

    Strategy.start = started
    random.seed(int(seed))
    np.random.seed(int(seed))
    server(Alone(client, config), Context(1, private.SERVER_NODE, {}, RecordDict(), config))
    arrays = {name: array.numpy().tolist() for name, array in results[-1].arrays.items()}
    sys.stdout.write(f"ARRAYS {json.dumps(arrays)}\n")


if __name__ == "__main__":
    main()
