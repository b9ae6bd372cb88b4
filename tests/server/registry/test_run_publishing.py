"""A run's last model becomes a version, the candidate, and the champion where the rules allow it: federated or offline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import msgspec
import numpy as np
import pytest

from aimass.privacy.model_trust import ListedTrust
from aimass.proto.errors import BadInput, NotFound, NotInstalled, Refused, Stopped, Unavailable
from aimass.proto.origin import Origin
from aimass.proto.plan import EvaluateSettings, Promote, TaskRef, decode_plan, encode_plan
from aimass.proto.registry.entries import SmokeInputs
from aimass.proto.registry.reader import RegistryReader, Resolved
from aimass.proto.registry.rules import MetricRule, PromotionRules
from aimass.proto.reports import Measured, StepReport
from aimass.proto.step import StepKind
from aimass.proto.tensors import Blob, encode_numpy
from aimass.proto.views import RunView
from aimass.server.registry.aliases import Aliases
from aimass.server.registry.authors import Author
from aimass.server.registry.promotion import Smoked
from aimass.server.registry.rule_writing import set_rules
from aimass.server.registry.run_publishing import RunPublishing, whole
from aimass.server.reports import Reports
from aimass.server.store_threads import StoreThreads
from tests.support.clock import ManualClock
from tests.support.engines import MODEL, Bench
from tests.support.objects import MemoryObjects
from tests.support.registries import key_of, trusting

TRUST = ListedTrust(trusting("hub", "olga"))
RULES = PromotionRules(metrics=(MetricRule(name="accuracy", better="higher"),), least_members=2)
ORIGIN = Origin(data_set="heart@3", manifest="a" * 64, shards=4, rounds=1, engine="2 processes")
AUTO = Promote(model="heart", auto=True)


class Smoker:
    """Says what it is told to."""

    def __init__(self) -> None:
        self.hindered: Exception | None = None
        self.smoked = Smoked(worst=0.0, tolerance=1e-6, rows=1)

    def made(self, task: TaskRef, parameters: Path) -> SmokeInputs:
        if self.hindered is not None:
            raise self.hindered
        return SmokeInputs(columns={"age": (50.0,)}, expected=((0.25, 0.75),))

    def tried(self, task: TaskRef, parameters: Path, smoke: SmokeInputs | None) -> Smoked:
        assert smoke is not None
        assert parameters.read_bytes()
        return self.smoked


class House:
    """A bench beside a registry in memory."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.store, self.smoker = bench, MemoryObjects(), Smoker()
        self.publish = RunPublishing(
            bench.readings,
            bench.blobs,
            lambda: self.store,
            TRUST,
            Author("hub", key_of("hub")),
            self.smoker,
            bench.folder,
            bench.clock,
            StoreThreads(1, "registry"),
        )
        self.reports = Reports(bench.engine, bench.store, bench.blobs, lambda: bench.roster, lambda: None)
        self.reports.promotes = True

    def ruled(self, rules: PromotionRules = RULES) -> None:
        set_rules(self.store, TRUST, Author("olga", key_of("olga")), "heart", rules, 1.0)

    def resolved(self, reference: str) -> Resolved:
        return RegistryReader(self.store, TRUST).resolve(reference)

    async def offline(self, value: float, accuracy: float, rows: float = 1_000.0) -> str:
        """An offline run that made a model of this accuracy."""
        model = encode_numpy({"w": np.full(4, value, np.float32)})
        self.bench.blobs.put([MODEL])
        self.bench.blobs.put([model])
        plan = msgspec.structs.replace(decode_plan(self.bench.plan(1)), promote=AUTO)
        run_id = (await self.reports.begin(encode_plan(plan), f"anna:{value}", ORIGIN, "anna")).run_id
        steps = (StepKind.TRAIN, StepKind.EVALUATE)
        for index, kind in enumerate(steps):
            report = StepReport(
                index=index,
                kind=kind,
                round=1,
                asked=4,
                counted=4,
                seconds=1.0,
                model=Blob(model).digest if kind is StepKind.TRAIN else "",
                metrics={} if kind is StepKind.TRAIN else {"accuracy": Measured(mean=accuracy, weight=rows)},
            )
            await self.reports.step(run_id, report)
        await self.reports.end(run_id, "finished", "1 round")
        return run_id


def scene(test: Callable[[House], Coroutine[object, object, None]], folder: Path) -> None:
    async def whole() -> None:
        bench = await Bench.start(folder, ManualClock())
        try:
            await test(House(bench))
        finally:
            await bench.stop()

    asyncio.run(asyncio.wait_for(whole(), 30))


def test_offline_runs_are_published_and_the_better_one_becomes_champion(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.ruled()
        first, worse, best = [await house.offline(*told) for told in ((1.0, 0.80), (2.0, 0.81), (3.0, 0.90))]
        assert (await house.publish(first, AUTO)).state == "promoted"
        kept = await house.publish(worse, AUTO)
        assert (kept.state, kept.version) == ("published", "heart@2")
        assert "accuracy 0.81 against 0.8 of heart@1" in kept.said
        assert house.resolved("heart").version.number == 1
        assert house.resolved("heart@candidate").version.number == 2
        assert (await house.publish(best, AUTO)).state == "promoted"
        champion = house.resolved("heart@champion")
        assert (champion.version.number, champion.signer, champion.promoter) == (3, "hub", "hub")
        assert champion.version.run is not None
        assert champion.version.run.data_set == "heart@3"
        assert not list(tmp_path.glob("promoting-*"))

    scene(test, tmp_path)


def test_a_service_that_ends_meanwhile_publishes_nothing_without_smoke_inputs(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.smoker.hindered = Stopped("the smoke test was stopped")
        with pytest.raises(Stopped):
            await house.publish(await house.offline(1.0, 0.8), AUTO)
        assert not house.store.held

    scene(test, tmp_path)


def test_a_server_without_a_registry_refuses_to_record_a_run_that_asks_for_one(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.reports.promotes = False
        with pytest.raises(Refused, match="this server has no registry"):
            await house.offline(1.0, 0.8)

    scene(test, tmp_path)


def test_a_federated_run_is_published_alike(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.ruled(PromotionRules(least_members=2))
        bench = house.bench
        bench.submission.promotes = True
        plan = msgspec.structs.replace(decode_plan(bench.plan()), promote=AUTO, evaluate=EvaluateSettings(every=0))
        run_id = await bench.submit(encode_plan(plan))
        await bench.join(run_id)
        for partner in bench.partners:
            await bench.send(run_id, partner)
        await bench.finished(run_id)
        outcome = await house.publish(run_id, AUTO)
        assert outcome.state == "promoted"
        assert "2 partners or more in every round" in outcome.said
        version = house.resolved("heart").version
        assert version.run is not None
        assert version.run.run_id == run_id

    scene(test, tmp_path)


def test_the_same_run_is_published_once_however_often_it_is_tried(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.ruled()
        run_id = await house.offline(1.0, 0.8)
        trouble = ["heart/versions/00000001.json", "heart/aliases/champion/00000001.json"]

        def away(verb: str, key: str) -> None:
            if verb == "write" and trouble and key == trouble[0]:
                trouble.pop(0)
                raise Unavailable("the store is away", code="storage.unavailable")

        house.store.before = away
        for _ in range(2):
            with pytest.raises(Unavailable):
                await house.publish(run_id, AUTO)
        assert (await house.publish(run_id, AUTO)).state == "promoted"
        assert (await house.publish(run_id, AUTO)).state == "promoted"
        reader = RegistryReader(house.store, TRUST)
        assert reader.versions("heart") == (1,)
        assert [len(reader.history("heart", alias)) for alias in ("candidate", "champion")] == [1, 1]

    scene(test, tmp_path)


def test_a_champion_that_was_taken_back_does_not_return_by_itself(tmp_path: Path) -> None:
    """The server died before it noted what it had done, and a person rolled back before it was up again."""

    async def test(house: House) -> None:
        house.ruled()
        first, best = await house.offline(1.0, 0.8), await house.offline(2.0, 0.9)
        for run_id in (first, best):
            await house.publish(run_id, AUTO)
        aliases = Aliases(house.store, TRUST, Author("olga", key_of("olga")), house.bench.clock.now)
        aliases.roll_back("heart", "champion", "it is worse at night")
        outcome = await house.publish(best, AUTO)
        assert (outcome.state, outcome.said) == ("promoted", "it was made champion before, in state 2")
        assert house.resolved("heart").version.number == 1

    scene(test, tmp_path)


def test_a_run_that_was_delayed_does_not_become_the_candidate_after_a_newer_one(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        house.ruled()
        first, second = await house.offline(1.0, 0.8), await house.offline(2.0, 0.9)
        for run_id in (first, second, first):
            await house.publish(run_id, AUTO)
        assert house.resolved("heart@candidate").version.number == 2

    scene(test, tmp_path)


def test_without_auto_or_without_rules_it_is_published_and_no_more(tmp_path: Path) -> None:
    async def test(house: House) -> None:
        run_id = await house.offline(1.0, 0.8)
        for wanted, said in ((AUTO, "nobody has set promotion rules"), (Promote(model="heart"), "does not ask")):
            outcome = await house.publish(run_id, wanted)
            assert (outcome.state, outcome.version) == ("published", "heart@1")
            assert said in outcome.said
        with pytest.raises(NotFound):
            house.resolved("heart@champion")

    scene(test, tmp_path)


@pytest.mark.parametrize(
    ("hindered", "smoked", "said"),
    [
        (NotInstalled("a package that the task needs is absent"), None, "a package that the task needs is absent"),
        (BadInput("the model does not answer with numbers"), None, "does not answer with numbers"),
        (None, Smoked(worst=0.5, tolerance=1e-6, rows=1), "within 0.5 of what is expected"),
    ],
    ids=["no task here", "answers NaN", "answers otherwise"],
)
def test_a_model_that_its_smoke_inputs_were_not_tried_on_is_published_and_not_promoted(
    tmp_path: Path, hindered: Exception | None, smoked: Smoked | None, said: str
) -> None:
    async def test(house: House) -> None:
        house.ruled(PromotionRules())
        house.smoker.hindered = hindered
        house.smoker.smoked = smoked or house.smoker.smoked
        outcome = await house.publish(await house.offline(1.0, 0.8), AUTO)
        assert outcome.state == "published"
        assert said in outcome.said
        assert (house.resolved("heart@1").version.smoke is None) == (hindered is not None)

    scene(test, tmp_path)


def test_every_page_of_a_run_s_steps_counts(tmp_path: Path) -> None:
    """What a run cost is a sum over its steps: one page of them would state less."""

    async def test(house: House) -> None:
        run_id = await house.offline(1.0, 0.8)
        pages = []

        async def page(run_id: str, first: int) -> RunView:
            pages.append(first)
            return await house.bench.readings.run_view(run_id, first, 1)

        view = await whole(page, run_id)
        assert [step.index for step in view.steps] == [0, 1]
        assert pages == [0, 1, 2]

    scene(test, tmp_path)
