"""A simulated step as one Spark job: rows of orders in, rows of what became of them out.

A partner's work is a pure function of files that all executors see, so a lost executor's orders are simply done again
elsewhere. The model is mapped from the simulation's folder: it lies there already, and a broadcast would copy it into
each Python worker. Contributions go to the folder and their digests to the driver, which sums in the order of the
participants' keys: nothing large is ever collected.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from aimass.proto.errors import NotInstalled, Unavailable
from aimass.proto.values import canonical_json, decode_json
from aimass.server.simulation import partner
from aimass.server.simulation.partner import Asked, Made

__all__ = ["Spark"]

_PARTS: Final = 4
"""Tasks for each core in a step: few enough to cost little, enough to fill gaps when some partners have more rows."""


class Spark:
    """See `Crew`. `master` is as Spark takes it: `local[2]`, `spark://host:7077`."""

    def __init__(self, folder: Path, master: str) -> None:
        try:
            from pyspark.sql import SparkSession  # noqa: PLC0415  (an extra)
        except ModuleNotFoundError as error:
            raise NotInstalled(
                f"simulating on Spark needs the package {error.name}",
                code="simulation.spark",
                cure="Type: pip install 'aimass[offline]'",
            ) from error
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the system's, without our packages
        builder = (
            SparkSession.builder.master(master)
            .appName("aimass simulate")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "ERROR")
            .config("spark.python.worker.reuse", "true")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "16")
        )
        if master.startswith("local"):
            builder = builder.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1")
        try:
            self._session = builder.getOrCreate()
        except Exception as error:
            raise Unavailable(
                f"no Spark session starts: {type(error).__name__}",
                code="simulation.spark",
                value=master,
                cure="Spark needs Java 17 or newer, and a master that answers; its own log above says more.",
            ) from error
        self._session.sparkContext.setLogLevel("ERROR")
        self._folder = str(folder.resolve())

    def work(self, asked: Sequence[Asked]) -> Iterator[Made]:
        """See `Crew`."""
        context = self._session.sparkContext
        rows = [(place, canonical_json(one)) for place, one in enumerate(asked)]
        parts = max(1, min(len(rows), _PARTS * context.defaultParallelism))
        frame = self._session.createDataFrame(context.parallelize(rows, parts), "place long, asked binary")
        done = frame.mapInArrow(_Worker(self._folder), "place long, made binary").collect()
        for row in sorted(done, key=lambda row: int(row["place"])):
            yield decode_json(Made, bytes(row["made"]), "an executor's answer")

    def close(self) -> None:
        """Stop the session."""
        self._session.stop()


class _Worker:
    """Runs in Spark's Python workers, which are kept between steps with the bench in them."""

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa  # noqa: PLC0415

        for batch in batches:
            places, orders = batch.column(0).to_pylist(), batch.column(1).to_pylist()
            made = [partner.do(self._folder, bytes(order)) for order in orders]
            yield pa.RecordBatch.from_arrays(
                [pa.array(places, pa.int64()), pa.array(made, pa.binary())], ["place", "made"]
            )
