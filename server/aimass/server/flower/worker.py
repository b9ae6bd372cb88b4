"""The worker of a Flower run: the app's own server code, unchanged, against a Grid that remembers.

Started as `python -m aimass.server.flower.worker FD` with an empty environment. It runs as the server's user and is not
locked in: the operator installed this code. It holds no key, writes into a folder of its own, and ends with the server.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import queue
import signal
import socket
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

from aimass.proto.errors import AimassError, BadInput, Refused, Stopped
from aimass.proto.flower.installed import check_installed
from aimass.proto.flower.seeds import Seeds
from aimass.proto.frames import receive, seal, send
from aimass.proto.storage import map_descriptor
from aimass.proto.tensors import Blob
from aimass.proto.values import canonical_json, decode_json
from aimass.server.flower.journal import Exchange
from aimass.server.flower.outcome import Carrier, Outcome
from aimass.server.flower.speech import (
    MOST_WORDS,
    Answer,
    Ask,
    Begin,
    Broken,
    Failure,
    Fetch,
    Keep,
    NoMore,
    Over,
    Refusal,
    Reply,
    Request,
    There,
    Who,
)

if TYPE_CHECKING:
    from aimass.proto.flower.names import ArrayRecord

__all__ = ["Link", "Probe", "main", "run"]

_PR_SET_PDEATHSIG: Final = 1
_OOM_SCORE: Final = "500"
"""Where memory ends, the kernel kills an app before the server, which pauses that one run."""
_PATIENCE: Final = 5
"""So often in a row a probed app may ask who is there: then it waits for more than there are."""
Part = tuple[Answer, tuple[int, ...]]


class Link:
    """Requests to the server, from any thread, each waiting for its own answers."""

    def __init__(self, link: socket.socket) -> None:
        self._link = link
        self._ids = itertools.count()
        self._sending = threading.Lock()
        self._answers: dict[int, queue.SimpleQueue[Part]] = {}

    def begin(self) -> tuple[Begin, Blob]:
        """The server's first word, and the run's first model; from now on it is listened to, and the process ends when
        it is gone."""
        _, (descriptor, model) = receive(self._link)
        begin = decode_json(Begin, bytes(map_descriptor(descriptor)), "the word to begin")
        os.close(descriptor)
        threading.Thread(target=self._listen, daemon=True).start()
        return begin, _blob(model)

    def _listen(self) -> None:
        while True:
            try:
                data, descriptors = receive(self._link)
            except (AimassError, OSError):
                os._exit(1)
            answer: Answer = decode_json(Answer, data, "an answer of the server")  # type: ignore[arg-type]
            self._answers[answer.id].put((answer, descriptors))

    def _ask(self, request: Request, descriptors: tuple[int, ...] = ()) -> list[Part]:
        """All parts of the answer. Raises `Stopped` where the server refuses."""
        parts: list[Part] = []
        answers = self._answers[request.id] = queue.SimpleQueue()
        with self._sending:
            send(self._link, canonical_json(request), descriptors)
        while not parts or isinstance(parts[-1][0], Reply | Failure):
            parts.append(answers.get())
        del self._answers[request.id]
        if isinstance(last := parts[-1][0], Refusal):
            raise Stopped(last.what, code=last.code)
        return parts

    def who(self) -> tuple[str, ...]:
        """Names of the partners that take part and are connected."""
        ((answer, _),) = self._ask(Who(id=next(self._ids)))
        assert isinstance(answer, There)  # noqa: S101  (the server keeps to the protocol)
        return answer.names

    def keep(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Store a blob."""
        descriptor = seal(parts)
        try:
            self._ask(Keep(id=next(self._ids), digest=digest), (descriptor,))
        finally:
            os.close(descriptor)

    def ask(self, number: int, exchange: Exchange) -> None:
        """Do an exchange, durably."""
        self._ask(Ask(id=next(self._ids), number=number, exchange=exchange))

    def fetch(self, number: int, *, wait: bool) -> Outcome | None:
        """What became of an exchange; without `wait` None while it goes on."""
        *parts, (last, _) = self._ask(Fetch(id=next(self._ids), number=number, wait=wait))
        if isinstance(last, NoMore) and not last.over:
            return None
        replies: dict[str, Blob] = {}
        failures: dict[str, str] = {}
        total = None
        for part, descriptors in parts:
            if isinstance(part, Failure):
                failures[part.partner] = part.reason
            elif isinstance(part, Reply):
                total = part.sum or total
                for descriptor in descriptors:
                    replies[part.partner] = _blob(descriptor)
        if total is not None:
            return Outcome({}, failures, total, replies.get(total.node))
        return Outcome(replies, failures)

    def over(self, model: str) -> None:
        """The app has come to its end."""
        self._ask(Over(id=next(self._ids), model=model))

    def broken(self, error: BaseException, folder: Path) -> None:
        """The app has failed."""
        ours = isinstance(error, AimassError)
        self._ask(
            Broken(
                id=next(self._ids),
                code=error.code if isinstance(error, AimassError) else f"flower.{type(error).__name__}"[:100],
                place=_place(error, folder),
                what=str(error)[:MOST_WORDS] if ours else "",
            )
        )


class Probe:
    """Carries nothing: the first exchange that an app asks is the answer to the probe."""

    def __init__(self, link: Link) -> None:
        self._link, self._polls = link, 0

    def who(self) -> tuple[str, ...]:
        """All that are invited. Raises where the app waits for more."""
        names = self._link.who()
        if threading.current_thread() is threading.main_thread():
            self._polls += 1
        if self._polls > _PATIENCE:
            raise BadInput(
                "the app waits for more nodes than are invited",
                code="flower.nodes",
                limit=len(names),
                cure="Lower min_available_nodes and its like, or invite more partners.",
            )
        return names

    def keep(self, digest: str, parts: Sequence[bytes | memoryview]) -> None:
        """Nobody needs it."""

    def ask(self, number: int, exchange: Exchange) -> NoReturn:
        """It asks: that was to be seen. No `except` of the app's keeps the process."""
        self._link.ask(number, exchange)
        os._exit(0)

    def fetch(self, number: int, *, wait: bool) -> NoReturn:
        """There is nothing to fetch."""
        raise AssertionError(number)


def _blob(descriptor: int) -> Blob:
    data = map_descriptor(descriptor)
    os.close(descriptor)
    return Blob(data)


def _place(error: BaseException, folder: Path) -> str:
    """The last line of the app's own in the stack, or the last of all."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    if own:
        return f"{Path(own[-1].filename).relative_to(folder)}:{own[-1].lineno}"[:200]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"[:200] if frames else ""


def main() -> None:
    """Run the app, say how it ended, and end."""
    link = Link(socket.socket(fileno=int(sys.argv[1])))
    begin, first = link.begin()
    _end_with(begin.parent)
    folder = Path(begin.folder)
    try:
        model = run(begin, first, Probe(link) if begin.probe else link)
    except BaseException as error:  # noqa: BLE001  (an app may also raise SystemExit)
        traceback.print_exc()
        link.broken(error, folder)
    else:
        link.over(model)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # an app's threads hold up nobody


def run(begin: Begin, first: Blob, carrier: Carrier) -> str:
    """Run the app to its end, a bare strategy from the model `first`; the digest of its final model, which was kept, or
    "" where it gives none."""
    check_installed()
    seeds = Seeds()
    seeds.start_run(begin.seed)  # before flwr and the app are imported: modules may draw when they are loaded
    from aimass.proto.flower import private  # noqa: PLC0415
    from aimass.proto.flower.names import Context, RecordDict  # noqa: PLC0415
    from aimass.proto.flower.records import run_id_of  # noqa: PLC0415
    from aimass.server.flower.bare import serving  # noqa: PLC0415
    from aimass.server.flower.grid import DurableGrid  # noqa: PLC0415
    from aimass.server.flower.replay import Replay  # noqa: PLC0415
    from aimass.server.flower.strategies import Results, watched  # noqa: PLC0415

    run_id = run_id_of(begin.run_id)
    private.identify(run_id, private.SERVER_NODE)
    results = Results()
    watched(results, secure=begin.secure)
    app = serving(private.load_server_part(begin.server_app, Path(begin.folder)), first, begin.rounds)
    if begin.secure and private.serves_legacy(app):
        raise Refused(
            "an app of Flower's older kind (server_fn, ServerConfig) needs the reply of each node",
            code="flower.legacy",
            cure="Write it with @app.main() and a strategy of flwr.serverapp, or submit a plan without [secure].",
        )
    grid = DurableGrid(carrier, Replay(begin.state), begin.partners, private.described_run(run_id), secure=begin.secure)
    private.order_legacy_replies(grid.expect)
    context = Context(run_id, private.SERVER_NODE, {}, RecordDict(), begin.config)
    seeds.start_run(begin.seed)
    app(grid, context)
    return _kept(results.arrays or next(iter(context.state.array_records.values()), None), carrier)


def _kept(arrays: ArrayRecord | None, carrier: Carrier) -> str:
    """The final model, at the server."""
    if not arrays:
        return ""
    from aimass.proto.flower.names import RecordDict  # noqa: PLC0415
    from aimass.proto.flower.records import pack  # noqa: PLC0415
    from aimass.proto.hashing import digest_of  # noqa: PLC0415

    model, _ = pack("train", RecordDict({"arrays": arrays}))
    digest = digest_of(model)
    carrier.keep(digest, model)
    return digest


def _end_with(parent: int) -> None:
    """Be killed when the server is gone, however it went, and before it where memory ends."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_OOM_SCORE)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    main()
