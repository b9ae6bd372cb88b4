"""A Flower ClientApp in the training child: it is given one message at a time, and its reply is a contribution.

The app is the partner's own copy and runs unmodified; it is loaded when the child is locked in. Each message gets a
copy of its content, `random`, numpy and torch start from the order's seed, and what the app keeps in `Context.state`
comes back as the local state. Where the run's sums are secret the reply is made into the ordinary contribution of a
step (see `flower_sums`); else it leaves as the app made it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from aimass.client.flower_sums import summable
from aimass.client.worker_protocol import FlowerApp, Order
from aimass.proto.contribution import Contribution
from aimass.proto.errors import BadInput, NotFound
from aimass.proto.flower import private, records
from aimass.proto.flower.names import Context, Message, RecordDict
from aimass.proto.flower.seeds import Seeds
from aimass.proto.tensors import Blob, Buffer

__all__ = ["Node"]

Parts = list[bytes | memoryview]

_MESSAGE: Final = b"AIMass Flower message id v1\0"


class Node:
    """A partner as its app sees it, for one run."""

    def __init__(self, app: FlowerApp, node_config: Mapping[str, bool | int | float | str]) -> None:
        """Load the app: from here on its code runs. Raises `BadInput` where there is none, and what it raises."""
        private.identify(app.run_id, app.node_id)
        self._about, self._node_config = app, dict(node_config)
        self._seeds = Seeds()
        self._app = private.load_client_app(app.reference, Path(app.folder))

    def do(self, order: Order, inputs: Sequence[Blob], state: Buffer) -> tuple[Contribution, Parts]:
        """The contribution and the new state. Raises `NotFound` for a message that the app has no function for,
        `BadInput` for one of another kind than its step and for a reply that cannot leave, and whatever the app
        raises."""
        model, rest = inputs
        told = records.unpack(model, rest)
        message_type = told.message_type
        if records.kind_of(message_type) is not order.kind:  # policy and gate have looked at the step's kind alone
            raise BadInput(
                "a message of another kind than its step", code="flower.kind", value=message_type, limit=order.kind
            )
        if not private.answers(self._app, message_type):
            raise NotFound("the app has no function for this message", code="flower.unregistered", value=message_type)
        self._seeds.start(bytes.fromhex(order.seed))
        kept = records.unpack_state(Blob(state)) if state else None
        reply, kept = self._answered(told, _message_id(order.seed), kept)
        if not self._about.secret_sums:
            return records.pack_reply(reply), records.pack_state(kept)
        return summable(order.kind, reply, model, order.train.weight), records.pack_state(kept)

    def _answered(self, told: records.Told, message_id: str, state: RecordDict | None) -> tuple[RecordDict, RecordDict]:
        """The content of the app's reply and the state that it keeps."""
        about = self._about
        content = told.content
        sent = private.to_legacy(told.message_type, content) if private.takes_legacy(self._app) else content
        message = private.instruction(told._replace(content=sent), about.run_id, about.node_id, message_id)
        context = Context(
            about.run_id, about.node_id, dict(self._node_config), state or RecordDict(), dict(about.run_config)
        )
        reply = _content(self._app(message, context))
        if sent is not content:
            reply = private.from_legacy(told.message_type, content, reply)
        return reply, context.state


def _message_id(seed: str) -> str:
    """As unique as the seed, and no way to it: apps may print or send the id of a message, which is no secret."""
    return hashlib.sha256(_MESSAGE + bytes.fromhex(seed)).hexdigest()


def _content(reply: Message) -> RecordDict:
    if not isinstance(reply, Message):
        raise BadInput("the app gave no message back", code="flower.reply", value=type(reply).__name__)
    if reply.has_error():
        raise BadInput("the app replied with an error", code="flower.error", value=reply.error.code)
    return reply.content
