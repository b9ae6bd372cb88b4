"""What Flower apps need of flwr that has no public name, for both sides; nothing else here imports such names.

Loading it loads flwr, which belongs to the extra `aimass[flower]`. Its next series may move any of these names:
`tests/proto/flower/test_private.py` fails first then, and says which.
"""

# isort: off
from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from aimass.proto.errors import BadInput
from aimass.proto.flower.names import (
    ArrayRecord,
    ClientApp,
    ConfigRecord,
    Message,
    Metadata,
    MetricRecord,
    RecordDict,
    ServerApp,
)
from aimass.proto.flower.records import WEIGHT, Told
from flwr.app.message import make_message  # after `names`, the door
from flwr.compat.common.recorddict_compat import parameters_to_arrayrecord
from flwr.server.strategy import Strategy as OlderStrategy
from flwr.serverapp.strategy import Strategy
from flwr.supercore.date import now
from flwr.supercore.object_ref import load_app
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity
# isort: on

__all__ = [
    "SERVER_NODE",
    "answers",
    "arrays_of",
    "described_run",
    "from_legacy",
    "identify",
    "instruction",
    "load_client_app",
    "load_server_part",
    "named",
    "order_legacy_replies",
    "serves_legacy",
    "takes_legacy",
    "to_legacy",
]

App = TypeVar("App")

SERVER_NODE: Final = 1
"""The node id of the server's side, as flwr gives it."""

_TTL_S: Final = 43_200.0


def identify(run_id: int, node_id: int) -> None:
    """Say whose messages this process builds: flwr keeps that for the whole process, so one app runs in it."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 0


def load_client_app(reference: str, folder: Path) -> ClientApp:
    """The app at `module:attribute` below `folder`, which goes onto `sys.path`; loading runs its code.

    Raises `BadInput` for a reference that leads to no ClientApp, and what the app's modules raise.
    """
    return _load(reference, folder, ClientApp)


def load_server_part(reference: str, folder: Path) -> ServerApp | Strategy | OlderStrategy:
    """As `load_client_app`, for a ServerApp or a bare strategy, of the newer kind or the older."""
    return _load(reference, folder, ServerApp, Strategy, OlderStrategy)


def _load(reference: str, folder: Path, *kinds: type[App]) -> App:
    try:
        app = load_app(reference, LookupError, folder)
    except LookupError as error:
        raise _no_app(reference, kinds) from error
    if not isinstance(app, kinds):
        raise _no_app(reference, kinds)
    return app


def _no_app(reference: str, kinds: Sequence[type]) -> BadInput:
    return BadInput(
        f"the app has no {' or '.join(dict.fromkeys(kind.__name__ for kind in kinds))} there",
        code="flower.reference",
        value=reference,
        limit="module:attribute, as [tool.flwr.app.components] of pyproject.toml names it",
    )


def instruction(told: Told, run_id: int, node_id: int, message_id: str) -> Message:
    """A message of the server's as it comes to a node, sent now; replies to it carry `message_id`."""
    about = Metadata(
        run_id=run_id,
        message_id=message_id,
        src_node_id=SERVER_NODE,
        dst_node_id=node_id,
        reply_to_message_id="",
        group_id=told.group_id,
        created_at=now().timestamp(),
        ttl=_TTL_S,
        message_type=told.message_type,
    )
    return make_message(about, told.content)


def named(message: Message, message_id: str) -> Message:
    """The message with its id, which flwr leaves empty for whoever carries it to fill in."""
    message.metadata.__dict__["_message_id"] = message_id
    return message


def takes_legacy(app: ClientApp) -> bool:
    """Whether the app was made from a `client_fn` (NumPyClient): it then understands legacy records alone."""
    return app._call is not None  # noqa: SLF001  (flwr keeps it nowhere else)


def answers(app: ClientApp, message_type: str) -> bool:
    """Whether the app has a function for messages of this type; one made from a `client_fn` says so itself."""
    category, _, action = message_type.partition(".")
    return takes_legacy(app) or f"{category}.{action or 'default'}" in app._registered_funcs  # noqa: SLF001


_INS: Final = {"train": "fitins", "evaluate": "evaluateins"}


def to_legacy(message_type: str, content: RecordDict) -> RecordDict:
    """Content of the newer strategies (`arrays`, `config`) as a `client_fn` reads it; legacy content as it is."""
    name = _INS.get(message_type)
    if name is None or f"{name}.parameters" in content:
        return content
    if len(content.array_records) != 1:
        raise BadInput(
            "a NumPyClient takes one array record", code="flower.legacy", value=len(content.array_records), limit=1
        )
    (arrays,) = content.array_records.values()
    config = {key: value for record in content.config_records.values() for key, value in record.items()}
    return RecordDict({f"{name}.parameters": arrays, f"{name}.config": ConfigRecord(config)})


def from_legacy(message_type: str, sent: RecordDict, reply: RecordDict) -> RecordDict:
    """A `client_fn`'s reply to `sent`, newer content that `to_legacy` translated, as the newer strategies read it.

    The arrays take the names of those that were sent, in their order: a NumPyClient knows none. Of the metrics, those
    that are numbers go with the count of examples, as strategies weigh by it; the others go in a record of their own.
    """
    name = {"train": "fitres", "evaluate": "evaluateres"}[message_type]
    told = reply.config_records[f"{name}.metrics"]
    numbers = {key: value for key, value in told.items() if type(value) in (int, float)}
    numbers[WEIGHT] = reply.metric_records[f"{name}.num_examples"]["num_examples"]
    content = RecordDict()
    if message_type == "train":
        (names,) = sent.array_records.values()
        made = list(reply.array_records[f"{name}.parameters"].values())
        if len(made) != len(names):
            raise BadInput(
                "a NumPyClient gave another number of arrays", code="flower.legacy", value=len(made), limit=len(names)
            )
        content["arrays"] = ArrayRecord(dict(zip(names, made, strict=True)))
    else:
        numbers["loss"] = reply.metric_records[f"{name}.loss"]["loss"]
    content["metrics"] = MetricRecord(numbers)
    if others := {key: value for key, value in told.items() if key not in numbers}:
        content["config"] = ConfigRecord(others)
    return content


# ---------------------------------------------------------------- the server's side


def described_run(run_id: int) -> Any:
    """What a Grid says of its run."""
    return Run.create_empty(run_id)


def serves_legacy(app: ServerApp) -> bool:
    """Whether a ServerApp has no `@app.main()`: Flower's older server then drives it, which sees single replies."""
    return app._main is None  # noqa: SLF001  (flwr keeps it nowhere else)


def arrays_of(parameters: Any) -> ArrayRecord:
    """The older server's Parameters, which have no names, as a record."""
    return parameters_to_arrayrecord(parameters, keep_input=True)


def order_legacy_replies(expect: Callable[[int], None]) -> None:
    """Let the older server ask all nodes of a round at once, and add up their replies in the order of node ids.

    `expect` hears how many messages its threads will send. Its own order is that of threads, and floats that are added
    in another order do not come to the same model again.
    """
    from flwr.server import server  # noqa: PLC0415  (the older server alone needs it)

    for name in ("fit_clients", "evaluate_clients"):
        plain = getattr(server, name)
        if getattr(plain, "ordered", False):
            continue

        def ordered(client_instructions: Any, max_workers: Any, *args: Any, plain: Any = plain, **kwargs: Any) -> Any:
            count = len(client_instructions)
            expect(min(max_workers or count, count))
            results, failures = plain(client_instructions, max_workers or max(count, 1), *args, **kwargs)
            return sorted(results, key=lambda each: int(each[0].cid)), failures

        ordered.ordered = True  # type: ignore[attr-defined]
        setattr(server, name, ordered)
