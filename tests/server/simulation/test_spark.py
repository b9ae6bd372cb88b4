"""Over Spark: the bits of one process, also where an executor is killed in the middle of a round."""

from __future__ import annotations

import os
import shutil
import signal
import threading
from pathlib import Path

import pytest

from aimass.proto.sharding import Split
from aimass.server.simulation.crew import Alone
from aimass.server.simulation.partner import Asked, Made
from aimass.server.simulation.site import InFolder
from aimass.server.simulation.spark import Spark
from tests.support.simulations import begun, finished, heart_draft, shards_of
from tests.support.spark_cluster import executors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(shutil.which("java") is None, reason="Spark needs Java"),
]
DRAFT = heart_draft(train='epochs = 2\noptimizer = "adam"\nkeep_optimizer = true', cohort="quorum = 4\nsample = 8")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = Split(rule="dirichlet", argument="0.5", partners=12, seed=3, smallest=10)
    return shards_of(tmp_path_factory.mktemp("spark") / "shards", "heart", split)


@pytest.mark.filterwarnings("default")
def test_a_simulation_over_spark_ends_in_the_bits_of_one_process(tmp_path: Path, shards: Path) -> None:
    alone = finished(begun(tmp_path / "alone", DRAFT, shards))
    folder = begun(tmp_path / "spark", DRAFT, shards)
    run = finished(folder, Spark(InFolder(folder.path), "local[2]", "test"))
    assert run.state == "finished", run.reason
    assert run.model == alone.model


class _Killing:
    """A crew over Spark one of whose executors is shot once it has brought some contributions of a round."""

    def __init__(self, spark: Spark, spool: Path) -> None:
        self._spark, self._spool, self.killed = spark, spool, 0
        self._began = False

    def work(self, asked: list[Asked]) -> list[Made]:
        if asked[0].step.round == 2 and not self._began:
            self._began = True
            threading.Thread(target=self._kill, args=(asked[0].step.index,), daemon=True).start()
        return list(self._spark.work(asked))

    def _kill(self, index: int) -> None:
        spool = self._spool / str(index)
        while not any(spool.iterdir()):
            pass
        # One may be between two lives: the list is read until there is one.
        while not (running := executors()):
            pass
        os.kill(running[0], signal.SIGKILL)
        self.killed += 1

    def reduced(self, index: int, made: list[Made]) -> None:
        return None

    def close(self) -> None:
        self._spark.close()


@pytest.mark.filterwarnings("default")
def test_what_a_killed_executor_had_done_is_done_again_to_the_same_bits(tmp_path: Path, shards: Path) -> None:
    alone = finished(begun(tmp_path / "alone", DRAFT, shards), Alone(InFolder(tmp_path / "alone")))
    folder = begun(tmp_path / "spark", DRAFT, shards)
    crew = _Killing(Spark(InFolder(folder.path), "local-cluster[2,1,1024]", "test"), folder.path / "spool")
    run = finished(folder, crew)  # type: ignore[arg-type]
    assert crew.killed == 1
    assert run.state == "finished", run.reason
    assert run.model == alone.model
