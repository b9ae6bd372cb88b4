"""The steps of a run as Spark jobs: rows of orders in, rows of what became of them out.

A partner's work is a pure function of files that all executors see, so a lost executor's orders are simply done again
elsewhere. A model is mapped from the run's folder, or fetched from its store: it lies there already, and a broadcast
would copy it into each Python worker. Sums are made in the order of the participants' keys, whoever was faster. Orders
are plain rows of Spark's core: through its tables each step would start twice as many Python workers, and plan a query.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, TypeVar

from aimass.proto.errors import AimassError, NotInstalled, Unavailable
from aimass.proto.values import canonical_json, decode_json
from aimass.server.reduction import Reduced
from aimass.server.simulation import partner
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.site import Opens

__all__ = ["Spark", "anew", "given_up", "is_local", "open_session"]

log = logging.getLogger("aimass.spark")
T = TypeVar("T")

_PARTS: Final = 4
"""Tasks for each core in a step: few enough to cost little, enough to fill gaps when some partners have more rows."""
_ATTEMPTS: Final = 4
"""How often a task is tried; beyond one machine that is Spark's own default, and on one it would be 1."""
_LOCAL: Final = re.compile(r"local(\[(\*|[0-9]+)\])?")

Deliver = Callable[[Asked, Made, bytes], Made]
"""Takes what came back with an answer: the contribution, where executors do not see this machine's spool."""


def open_session(master: str, name: str, options: Mapping[str, str] = MappingProxyType({})) -> Any:
    """A Spark session; raises `NotInstalled` without the extra, `Unavailable` where none starts."""
    try:
        from pyspark.sql import SparkSession  # noqa: PLC0415  (an extra)
    except ModuleNotFoundError as error:
        raise NotInstalled(
            f"training on Spark needs the package {error.name}",
            code="spark.absent",
            cure="Type: pip install 'aimass[offline]'",
        ) from error
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the system's, without our packages
    settings = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "ERROR",
        "spark.python.worker.reuse": "true",
    }
    if master.startswith("local"):
        settings |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
    builder = SparkSession.builder.master(_patient(master)).appName(name)
    for key, value in (settings | dict(options)).items():
        builder = builder.config(key, value)
    try:
        session = builder.getOrCreate()
    except Exception as error:
        raise Unavailable(
            f"no Spark session starts: {type(error).__name__}",
            code="spark.start",
            value=master,
            cure="Spark needs Java 17 or newer, and a master that answers; its own log above says more.",
        ) from error
    session.sparkContext.setLogLevel("ERROR")
    return session


def is_local(master: str) -> bool:
    """Whether executors are threads of this machine, and see its files."""
    return _LOCAL.fullmatch(master) is not None


def _patient(master: str) -> str:
    """The master with as many attempts at a task as a cluster makes: a worker that died is then nobody's end."""
    found = _LOCAL.fullmatch(master)
    return f"local[{found[2] or 1},{_ATTEMPTS}]" if found else master


class Spark:
    """See `Crew`. `master` is as Spark takes it: `local[2]`, `spark://host:7077`."""

    def __init__(
        self,
        opens: Opens,
        master: str,
        name: str,
        options: Mapping[str, str] = MappingProxyType({}),
        deliver: Deliver = lambda _asked, made, _parcel: made,
    ) -> None:
        self._opens, self._deliver = opens, deliver
        self._session = open_session(master, name, options)

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`; raises `Unavailable` where Spark gave up."""
        context = self._session.sparkContext
        rows = [(place, canonical_json(one)) for place, one in enumerate(asked)]
        parts = max(1, min(len(rows), _PARTS * context.defaultParallelism))
        working = context.parallelize(rows, parts).mapPartitions(_Worker(self._opens))
        try:
            done = working.collect()
        except Exception as error:
            raise given_up(error) from error
        for place, made, parcel in sorted(done):
            yield self._deliver(asked[place], decode_json(Made, made, "an executor's answer"), parcel)

    @property
    def cores(self) -> int:
        """Tasks that run at once."""
        return int(self._session.sparkContext.defaultParallelism)

    def each(self, function: Callable[[bytes], bytes], rows: Sequence[bytes]) -> list[bytes]:
        """What an importable object, called somewhere, gives for every row, in their order; raises `Unavailable` where
        Spark gave up."""
        context = self._session.sparkContext
        parts = max(1, min(len(rows), _PARTS * context.defaultParallelism))
        try:
            return [bytes(one) for one in context.parallelize(rows, parts).map(function).collect()]
        except Exception as error:
            raise given_up(error) from error

    def reduced(self, index: int, made: Sequence[Made]) -> Reduced | None:
        """See `Crew`: they were delivered into the spool."""
        return None

    def close(self) -> None:
        """Stop the session."""
        self._session.stop()


_LOST: Final = frozenset({"spark.executor", "spark.worker"})


def anew(job: Callable[[], T]) -> T:
    """What a job gives that Spark does not try again itself: begun anew where a process was lost, as often as Spark
    tries a task. Raises `Unavailable` where Spark gave up."""
    for left in reversed(range(_ATTEMPTS)):
        try:
            return job()
        except Exception as error:
            lost = given_up(error)
            if lost.code not in _LOST or not left:
                raise lost from error
            log.warning("%s: the job begins anew", lost.what)
    raise ValueError("a job is tried once at least")


_ENDINGS: Final = (
    (
        re.compile("ExecutorLostFailure|Executor heartbeat timed out"),
        "spark.executor",
        "executors were lost, again and again",
        "See their logs; give them more memory (spark.executor.memory), then --resume.",
    ),
    (
        re.compile("Python worker (exited unexpectedly|failed to connect)|SIGKILL|MemoryError"),
        "spark.worker",
        "a Python worker of Spark died, perhaps for want of memory",
        "Use smaller shards or fewer cores, or raise spark.executor.memoryOverhead; then --resume.",
    ),
)


_RAISED: Final = re.compile(r"aimass\.proto\.errors\.|[\w.]*(Error|Exception)\b")
"""Begins a line of Python's that says what was raised."""


def given_up(error: Exception) -> AimassError:
    """A sentence for a job that Spark gave up, by the last cause in its account."""
    text = str(error)
    for form, code, what, cure in _ENDINGS:
        if form.search(text):
            return Unavailable(what, code=code, cure=cure)
    last = next((line for line in reversed(text.splitlines()) if _RAISED.match(line)), "")
    return Unavailable(
        "Spark gave up a step",
        code="spark.job",
        value=last[:300] or type(error).__name__,
        cure="Its own log says more; then --resume.",
    )


class _Worker:
    """Runs in Spark's Python workers, which are kept between steps with the bench in them."""

    def __init__(self, opens: Opens) -> None:
        self._opens = opens

    def __call__(self, rows: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes, bytes]]:
        orders = list(rows)
        following = [*(decode_json(Asked, order, "an order").partner for _, order in orders[1:]), ""]
        for (place, order), soon in zip(orders, following, strict=True):
            made, parcel = partner.do_far(self._opens, order, soon)
            yield place, made, parcel
