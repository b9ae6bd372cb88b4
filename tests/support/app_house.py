"""Everything that the app is looked at over, made of real services: four hospitals with runs that have ended in all
the ways that runs end, a registry with versions of two models, serving, the data set service, and a search of settings.

It takes a minute, so tests share one. `python -m tests.support.app_house FOLDER` makes one for a person and keeps it
until Ctrl-C.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pyarrow as pa
from pyarrow import parquet
from scripts.demos.explaining import salt_of, write_held_out
from scripts.demos.house import SERVICE_HOST, House, free_port
from scripts.demos.private import budget_of, private_plan

from aimass.client.tasks.heart import task as heart
from aimass.explain.tune.search import Searching
from aimass.proto.api import Federation
from aimass.proto.task import first_model, locate
from aimass.proto.tensors import Blob
from tests.explain.tune.planted import Planted, begun
from tests.support.app_plans import CLOTHES, STUDY, plan
from tests.support.datasets import dataset

__all__ = ["ANALYST", "HOSPITALS", "AppHouse", "Furnished", "furnished"]

HOSPITALS: Final = ("cleveland", "hungarian", "long-beach", "switzerland")
_TAILORS: Final = HOSPITALS[:2]
"""Who hold pictures of clothes too."""
_PICTURES: Final = 400
_SPLIT: Final = 11
_TIMES: Final = 200
"""How often the held-out rows are repeated in rows whose work is met while pages are opened."""
ANALYST: Final = "anna"
TRUST: Final = "trust.json"
DATA: Final = "data-house"


@dataclasses.dataclass(frozen=True, slots=True)
class Furnished:
    """Where everything is: folders, addresses, and the ids of runs by the names of their plans."""

    folder: Path
    registry: str
    trust: Path
    serving: str
    data: str
    studies: Path
    runs: dict[str, str]
    rows: dict[str, Path]

    def home(self, who: str = ANALYST) -> Path:
        """The folder of a member."""
        return self.folder / who


class AppHouse:
    """Builds the house, room by room; `House` owns the processes."""

    def __init__(self, house: House) -> None:
        self.house = house
        self._runs: dict[str, str] = {}

    @property
    def registry(self) -> str:
        """The registry's URL."""
        return f"file://{self.house.folder / 'registry'}"

    def furnish(self) -> Furnished:
        """Make everything; what is returned stays true while the house's processes run."""
        self._found()
        self._train()
        self._end_badly()
        self._publish()
        self._train_in_private()
        return Furnished(
            folder=self.house.folder,
            registry=self.registry,
            trust=self.house.folder / TRUST,
            serving=self._serve(),
            data=self._serve_data(),
            studies=self._search(),
            runs=self._runs,
            rows=self._hold_out(),
        )

    # ---------------------------------------------------------------- rooms

    def _found(self) -> None:
        people = (("scientist", "scientist"), (ANALYST, "analyst"), (DATA, "service"))
        self.house.found(HOSPITALS, people)
        for name in HOSPITALS:
            self.house.permit(name, "heart", locate("heart").digest, ["auc", "loss"])
            self._add(name, "heart", dataset("heart") / f"{name}.parquet")
        table = parquet.read_table(dataset("fashion") / "train.parquet")
        for number, name in enumerate(_TAILORS):
            pictures = self.house.folder / name / "clothes.parquet"
            parquet.write_table(table.slice(number * _PICTURES, _PICTURES), pictures)
            policy = self.house.folder / name / "policy.toml"
            policy.write_text(
                f'{policy.read_text()}\n[[tasks]]\nname = "fashion"\ndigest = "{locate("fashion").digest}"\n'
            )
            self._add(name, "fashion", pictures)
        for name in HOSPITALS:
            self.house.start_partner(name)

    def _add(self, partner: str, task: str, rows: Path) -> None:
        self.house.run(
            "client", "data", "add", task, "--dir", partner, "--schema", f"{task}/1", "--uri", str(rows),
            "--format", "parquet", "--salt", salt_of(_SPLIT, partner),
        )  # fmt: skip

    def _train(self) -> None:
        for name, rate, seed in STUDY:
            self._run(plan(name, rate=rate, seed=seed))
        self._run(plan("heart-unmeasured", rounds=1, every=0))
        self._run(CLOTHES)

    def _run(self, text: str) -> None:
        with Federation.open(self.house.folder / "scientist") as federation:
            run = federation.submit(self._written(text))
            for _ in run.watch():
                pass
            self._note(run.view)

    def _written(self, text: str) -> Path:
        path = self.house.folder / f"plan-{hashlib.sha256(text.encode()).hexdigest()[:8]}.toml"
        path.write_text(text)
        return path

    def _note(self, view) -> None:  # type: ignore[no-untyped-def]
        self._runs[view.plan.name] = view.summary.run_id

    def _end_badly(self) -> None:
        """One run is stopped by a person, and another goes on with a partner that died."""
        with Federation.open(self.house.folder / "scientist") as federation:
            run = federation.submit(self._written(plan("heart-stopped", rounds=400)))
            for view in run.watch():
                if view.summary.round >= 2 and view.summary.state == "running":
                    run.stop()
            self._note(run.view)
            run = federation.submit(
                self._written(plan("heart-one-missing", rounds=2, every=2, quorum=2, deadline_s=10.0))
            )
            for view in run.watch():
                if view.summary.round == 1 and "switzerland" in self.house.alive():
                    self.house.kill("switzerland")
            self._note(run.view)
        self.house.start_partner("switzerland")

    def _train_in_private(self) -> None:
        """Last, since a data set with a budget takes no plans without noise."""
        for name in HOSPITALS:
            policy = self.house.folder / name / "policy.toml"
            policy.write_text(policy.read_text() + budget_of("example"))
            self.house.stop(name)
            self.house.start_partner(name)
        model = Blob(first_model(heart, 7))
        self._run(private_plan("example", model, 2, 7).replace("heart-demo", "heart-private"))

    def _publish(self) -> None:
        """Two versions of the heart's model, the second is the champion; one of the clothes'."""
        self.house.run("model", "trust", "add", "scientist", "--from", "scientist", "--trust", TRUST)
        into = ("--as", "scientist", "--registry", self.registry, "--trust", TRUST)
        for name in (STUDY[0][0], STUDY[2][0], "clothes"):
            self.house.run("model", "publish", self._runs[name], *into)
        for version in ("heart@1", "heart@2", "fashion@1"):
            self.house.run("model", "promote", version, *into, "--reason", "the best so far")

    def _serve(self) -> str:
        port = free_port()
        self.house.start(
            "serve", "serve", "heart", "fashion", "--registry", self.registry, "--trust", TRUST, "--cache", "serving",
            "--http", f"127.0.0.1:{port}",
        )  # fmt: skip
        return f"http://127.0.0.1:{port}"

    def _serve_data(self) -> str:
        store, address = f"file://{self.house.folder / 'store'}", f"{SERVICE_HOST}:{free_port(SERVICE_HOST)}"
        self.house.run("data", "init", DATA, "--store", store, "--listen", address)
        self.house.run(
            "data", "split", "heart", "heart", "--task", "heart", "--store", store, "--split", "files", "--drop", "0.5",
        )  # fmt: skip
        self.house.start("data", "data", "serve", "--dir", DATA)
        return address

    def _search(self) -> Path:
        """A search that has ended, over trials whose outcome is planted."""
        folder, search = begun(self.house.folder / "searches" / "planted", trials=8, seeds=(5, 6, 7))
        Searching(folder, search, Planted()).go_on()
        return self.house.folder / "searches"

    def _hold_out(self) -> dict[str, Path]:
        """Rows that no hospital trained on, and pictures of clothes."""
        held = {}
        (self.house.folder / "held-out").mkdir()
        for name in HOSPITALS:
            held[name] = self.house.folder / "held-out" / f"{name}.parquet"
            write_held_out(dataset("heart") / f"{name}.parquet", held[name], heart.schema, salt_of(_SPLIT, name))
        held["many"] = self.house.folder / "held-out" / "many.parquet"
        all_rows = pa.concat_tables([parquet.read_table(held[name]) for name in HOSPITALS])
        parquet.write_table(pa.concat_tables([all_rows] * _TIMES), held["many"])
        held["clothes"] = self.house.folder / "held-out" / "clothes.parquet"
        pictures = parquet.read_table(dataset("fashion") / "test.parquet").slice(0, 100)
        parquet.write_table(pictures, held["clothes"])
        return held


@contextlib.contextmanager
def furnished(folder: Path) -> Iterator[tuple[House, Furnished]]:
    """The house while the block runs."""
    with House(folder) as house:
        yield house, AppHouse(house).furnish()


def main() -> int:
    """Keep a house for a person."""
    with furnished(Path(sys.argv[1]).resolve()) as (_, found):
        sys.stdout.write(f"{found}\n")
        sys.stdout.flush()
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()
    return 0


if __name__ == "__main__":
    sys.exit(main())
