"""A real server publishes what a run has made and makes it champion, and everybody sees what became of it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec

from aimass.client.tasks.heart import Heart
from aimass.privacy.model_trust import FileTrust
from aimass.privacy.signing import public_key
from aimass.proto.api import Federation
from aimass.proto.objects import open_objects
from aimass.proto.origin import Origin
from aimass.proto.plan import Plan, Promote, Stage, TaskRef, TrainSettings, encode_plan
from aimass.proto.registry.reader import RegistryReader
from aimass.proto.registry.rules import MetricRule, PromotionRules
from aimass.proto.registry.trust import May, Signer, TrustFile
from aimass.proto.reporting import Record
from aimass.proto.reports import Measured, StepReport
from aimass.proto.step import StepKind
from aimass.proto.task import locate
from aimass.proto.tensors import Blob
from aimass.proto.views import RunState, RunView
from aimass.server.registry.authors import Author
from aimass.server.registry.rule_writing import set_rules
from aimass.server.registry.trusting import write_trust
from tests.support.edge_federation import Members, run, serving

ORIGIN = Origin(data_set="heart@3", manifest="a" * 64, shards=4, rounds=1, engine="2 processes")
RULES = PromotionRules(metrics=(MetricRule(name="accuracy", better="higher", bound=0.7),), least_members=4)
FIRST, LAST = Heart().first(1), Heart().first(2)


def plan() -> bytes:
    return encode_plan(
        Plan(
            name="p",
            task=TaskRef(name="heart", digest=locate("heart").digest),
            data_schema="heart/1",
            seed=1,
            model=Blob(FIRST).digest,
            stages=(Stage(driver="averaging", options={"rounds": 1}),),
            train=TrainSettings(batch_size=1, learning_rate=0.1, epochs=1),
            schema=Heart.schema,
            promote=Promote(model="heart", auto=True),
        )
    )


def report(home: Path) -> str:
    """A run that computed elsewhere, as its driver reports it."""
    with Federation.open(home) as anna:
        record = Record.begin(anna, plan(), FIRST, ORIGIN, "offline-run")
        told = StepReport(index=0, kind=StepKind.TRAIN, round=1, asked=4, counted=4, seconds=1.0)
        record.step(msgspec.structs.replace(told, model=Blob(LAST).digest), LAST)
        metrics = {"accuracy": Measured(mean=0.8, weight=500.0)}
        record.step(msgspec.structs.replace(told, index=1, kind=StepKind.EVALUATE, metrics=metrics))
        record.end(RunState.FINISHED, "1 round")
        return record.standing.run_id


def shown(home: Path, run_id: str) -> RunView:
    with Federation.open(home) as anna:
        return anna.run(run_id).view


@contextlib.contextmanager
def heard(words: str) -> Iterator[threading.Event]:
    """Set once the server's log says so."""
    event = threading.Event()

    class Listening(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage():
                event.set()

    handler, log = Listening(), logging.getLogger("aimass.server")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield event
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def test_a_run_that_has_finished_is_published_and_becomes_champion_by_the_rules(tmp_path: Path) -> None:
    members = Members.create(tmp_path)
    url, hub = (tmp_path / "registry").as_uri(), tmp_path / "hub"
    text = (hub / "server.toml").read_text().replace('[registry]\nurl = ""', f'[registry]\nurl = "{url}"')
    (hub / "server.toml").write_text(text)
    olga = Author("olga", members.keys["olga"].identity)
    may: dict[str, tuple[May, ...]] = {"hub": ("publish", "promote"), "olga": ("promote",)}
    keys = {name: public_key(members.keys[name].identity).hex() for name in may}
    write_trust(hub / "trust.json", TrustFile(signers=tuple(Signer(name=n, key=keys[n], may=may[n]) for n in may)))
    (hub / "data" / "promoting-left").mkdir(parents=True)  # of a server that was killed
    store, trust = open_objects(url), FileTrust(hub / "trust.json")
    set_rules(store, trust, olga, "heart", RULES, 1.0)

    async def scenario() -> None:
        with heard("its model is heart@1, promoted") as promoted:
            async with serving(members) as edge:
                anna = members.home("anna", edge.address)
                run_id = await asyncio.to_thread(report, anna)
                assert await asyncio.to_thread(promoted.wait, 60)
                view = await asyncio.to_thread(shown, anna, run_id)
        assert view.outcome is not None
        assert (view.outcome.state, view.outcome.version) == ("promoted", "heart@1")
        assert "accuracy is 0.8, asked for at least 0.7" in view.outcome.said
        found = RegistryReader(store, trust).resolve("heart")
        assert (found.signer, found.promoter, found.version.schema) == ("hub", "hub", Heart.schema)
        assert found.version.parameters.digest == Blob(LAST).digest
        assert found.version.smoke is not None

    run(scenario())
    assert [path.name for path in (hub / "data").glob("promot*")] == ["promotions"]
