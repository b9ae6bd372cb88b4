"""What the server and the worker of a Flower app say to each other, as JSON in `aimass.proto.frames`.

The worker asks and the server answers, each answer under the number of what was asked, in parts where it is large.
Blobs travel as descriptors: from the worker sealed memory files, from the server files of its store.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec

from aimass.proto.names import Digest, Name, RunId
from aimass.proto.values import Scalar, Value
from aimass.server.flower.journal import Exchange, State, Sum

__all__ = [
    "Answer",
    "Ask",
    "Begin",
    "Broken",
    "Failure",
    "Fetch",
    "Keep",
    "Kept",
    "NoMore",
    "Over",
    "Refusal",
    "Reply",
    "Request",
    "There",
    "Who",
]

MOST_WORDS: Final = 2_000


class Begin(Value, frozen=True):
    """The first word of the server, in a sealed file: the app, its configuration, the run and its journal.

    The run's first model comes with it. A bare strategy does `rounds` rounds of training. A `probe` ends with the first
    exchange that the app asks, which nobody does.
    """

    folder: str
    server_app: str
    run_id: RunId
    seed: int
    config: dict[str, Scalar]
    rounds: int
    partners: tuple[Name, ...]
    secure: bool
    parent: int
    state: State
    probe: bool = False


class Who(Value, frozen=True, tag="who"):
    """Who takes part and is connected now?"""

    id: int


class Keep(Value, frozen=True, tag="keep"):
    """Keep the blob that comes with it until it is named or the worker ends."""

    id: int
    digest: Digest


class Ask(Value, frozen=True, tag="ask"):
    """Do an exchange, whose blobs were kept."""

    id: int
    number: int
    exchange: Exchange


class Fetch(Value, frozen=True, tag="fetch"):
    """What became of an exchange? With `wait` the answer comes when it is over."""

    id: int
    number: int
    wait: bool = True


class Over(Value, frozen=True, tag="over"):
    """The app has come to its end with this model, which was kept; "" where it gives none."""

    id: int
    model: str = ""


class Broken(Value, frozen=True, tag="broken"):
    """The app failed. `what` is a sentence of ours or empty: an app's own words stay in its log."""

    id: int
    code: Annotated[str, msgspec.Meta(max_length=100)]
    place: Annotated[str, msgspec.Meta(max_length=200)]
    what: Annotated[str, msgspec.Meta(max_length=MOST_WORDS)] = ""


Request = Who | Keep | Ask | Fetch | Over | Broken


class There(Value, frozen=True, tag="there"):
    """Names of partners, sorted."""

    id: int
    names: tuple[Name, ...]


class Kept(Value, frozen=True, tag="kept"):
    """Done."""

    id: int


class Reply(Value, frozen=True, tag="reply"):
    """A partner's reply, whose blob comes with it; of a secure exchange the `sum`, with a model where there is one."""

    id: int
    partner: Name
    sum: Sum | None = None


class Failure(Value, frozen=True, tag="failure"):
    """A partner brought nothing."""

    id: int
    partner: Name
    reason: str


class NoMore(Value, frozen=True, tag="no-more"):
    """The last part of an answer; not `over` where the exchange still goes on."""

    id: int
    over: bool = True


class Refusal(Value, frozen=True, tag="refusal"):
    """It cannot be done: the run has ended, or something is too large."""

    id: int
    code: str
    what: str


Answer = There | Kept | Reply | Failure | NoMore | Refusal
