from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from aimass.proto.errors import BadInput, Conflict, IntegrityError, InternalError, Unavailable
from aimass.proto.servable import TensorSpec
from aimass.server.serving.dispatch.requests import Answer, ModelUnknown, NotReady, Overloaded, Request, WorkerLost
from aimass.server.serving.dispatch.settings import DispatchSettings
from aimass.server.serving.dispatch.working import Reply
from aimass.server.serving.settings import ServeSettings
from aimass.server.serving.workers.protocol import Opened
from tests.support.serving import FakeWorker, House, Y, away, rows, source, turns

NAN = {"y": np.array([np.nan])}


def in_house(test: Callable[[House], Awaitable[None]], settings: DispatchSettings | None = None) -> None:
    async def run() -> None:
        await test(House(settings or DispatchSettings()))

    asyncio.run(run())


def test_what_comes_in_one_turn_goes_to_a_worker_together() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0, 2.0, id_="a")
        house.ask(3.0, id_="b")
        await turns()
        worker.answer()
        assert worker.batches == [[[1.0, 2.0], [3.0]]]
        assert house.told() == [("a", [1.0, 2.0]), ("b", [3.0])]

    in_house(test)


def test_while_a_worker_computes_the_queue_gathers() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        for value in (2.0, 3.0):
            house.ask(value)
            await turns()
        worker.answer()
        assert worker.batches == [[[1.0]], [[2.0], [3.0]]]

    in_house(test)


def test_of_a_slow_model_fewer_rows_are_computed_at_once() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        for value in (2.0, 3.0, 4.0):
            house.ask(value)
        house.clock.advance(0.02)
        worker.answer()
        assert worker.batches == [[[1.0]], [[2.0], [3.0]]]

    in_house(test)


def test_the_next_batch_is_handed_over_before_answers_are_told() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        seen: list[int] = []
        house.dispatcher.submit(Request("sums", rows(1.0)), lambda _: seen.append(len(worker.batches)))
        await turns()
        house.ask(2.0)
        worker.answer()
        assert seen == [2]

    in_house(test)


def test_a_killed_workers_batch_is_given_to_another_at_once() -> None:
    async def test(house: House) -> None:
        await house.serve(1)
        first, second = house.started
        house.refuses = away()
        house.ask(1.0, id_="a")
        house.ask(2.0, id_="b")
        await turns()
        first.kill()
        await turns()
        second.answer()
        second.answer()
        assert second.batches == [[[1.0]], [[2.0]]], "each alone: one of them may be what it died of"
        assert house.told() == [("a", [1.0]), ("b", [2.0])]

    in_house(test, DispatchSettings(workers=2))


def test_what_every_worker_dies_of_fails_alone() -> None:
    async def test(house: House) -> None:
        await house.serve(1)
        house.ask(1.0, id_="poison")
        house.ask(2.0, id_="b")
        await turns()
        house.started[0].kill()
        await turns()
        house.started[1].kill()
        await turns()
        house.started[2].answer()
        assert house.told() == [("poison", "serving.worker_lost"), ("b", [2.0])]

    in_house(test)


def test_a_worker_that_cannot_be_started_is_tried_again_later_and_later() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.refuses = away()
        worker.kill()
        house.ask(1.0)
        await turns()
        house.clock.advance(0.5)
        await turns()
        house.refuses = None
        house.clock.advance(0.9)
        await turns()
        assert len(house.started) == 1
        house.clock.advance(0.1)
        await turns()
        house.started[1].answer()
        assert house.told() == [("", [1.0])]

    in_house(test)


@pytest.mark.parametrize(
    "reply", [NAN, {"y": np.zeros(2)}, {"z": np.zeros(1)}, InternalError("it broke", code="serving.model_failed")]
)
def test_what_a_new_version_cannot_answer_the_former_does(reply: object) -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        seen: list[tuple[int, str]] = []
        house.dispatcher.tap(
            lambda model, version, inputs, answer, seconds, error: seen.append((version, error.code if error else ""))
        )
        house.ask(1.0)
        await turns()
        new.answer(reply)  # type: ignore[arg-type]
        await turns()
        former.answer()
        assert house.told() == [("", [1.0])]
        assert [version for version, _ in seen] == [2, 1]
        assert [bool(code) for _, code in seen] == [True, False]

    in_house(test)


def taps(house: House, *, named: bool = True) -> list[tuple[int, str]]:
    """Who tried requests, and what it counts as: filled as it comes."""
    seen: list[tuple[int, str]] = []
    house.dispatcher.tap(
        lambda model, version, inputs, answer, seconds, error: seen.append((version, error.code if error else "")),
        named=named,
    )
    return seen


@pytest.mark.parametrize(
    ("reply", "counts_as"),
    [
        (NAN, "serving.invalid_output"),
        (BadInput("a value is none of the schema's", code="serving.category"), "serving.not_taken"),
    ],
)
def test_what_the_former_version_answers_is_held_against_the_new_one(reply: Reply, counts_as: str) -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        seen = taps(house)
        house.ask(1.0)
        await turns()
        new.answer(reply)
        assert seen == [], "it is not known yet whose fault it is"
        await turns()
        former.answer()
        assert seen == [(2, counts_as), (1, "")]

    in_house(test)


@pytest.mark.parametrize("first", [NAN, InternalError("it broke", code="x"), BadInput("odd", code="x")])
@pytest.mark.parametrize("second", [NAN, InternalError("it broke", code="x"), BadInput("odd", code="x")])
def test_what_no_version_answers_is_held_against_none(first: Reply, second: Reply) -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        seen = taps(house)
        house.ask(1.0)
        await turns()
        new.answer(first)
        await turns()
        former.answer(second)
        assert seen == [(2, "serving.unanswerable"), (1, "serving.unanswerable")]
        assert house.told()[0][1] != "serving.unanswerable", "who asked is told what was wrong"

    in_house(test)


def test_a_former_version_that_is_only_too_busy_excuses_nobody() -> None:
    async def test(house: House) -> None:
        new, _ = await house.serve(2, 1, fallback=1)
        seen = taps(house)
        house.ask(1.0, deadline=house.clock.now() + 1)
        await turns()
        new.answer(NAN)
        house.clock.advance(1.0)
        house.dispatcher._tick()
        assert seen == [(2, "serving.invalid_output"), (1, "serving.deadline")]

    in_house(test)


def test_who_names_a_version_is_not_counted_with_the_others() -> None:
    async def test(house: House) -> None:
        new, _ = await house.serve(2, 1, fallback=1)
        everybody, drawn = taps(house), taps(house, named=False)
        for version in (2, None):
            house.ask(1.0, version=version)
            await turns()
            new.answer()
        assert everybody == [(2, ""), (2, "")]
        assert drawn == [(2, "")]

    in_house(test)


def test_a_request_that_the_drawn_version_cannot_take_is_answered_by_one_that_can() -> None:
    async def test(house: House) -> None:
        (former,) = await house.serve(1)
        house.opens = Opened(inputs=(TensorSpec("z", "FP64", (-1, 2)),), outputs=(Y,), confinement=())
        await house.dispatcher.load(source(2))
        house.dispatcher.share("sums", {1: 0.5, 2: 0.5}, 1)
        seen = taps(house)
        house.draws = [0.9, 0.1, 0.1]
        house.ask(1.0)
        house.dispatcher.submit(Request("sums", {"z": np.zeros((1, 2))}), lambda outcome: None)
        house.dispatcher.submit(Request("sums", {"w": np.zeros((1, 2))}), lambda o: house.outcomes.append(("w", o)))
        await turns()
        former.answer()
        assert house.told() == [("w", "serving.input_unknown"), ("", [1.0])]
        assert seen == [(2, "serving.other_inputs"), (1, "serving.other_inputs"), (1, "")]

    in_house(test)


def test_a_new_version_that_takes_too_long_is_not_waited_for() -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        house.ask(1.0)
        await turns()
        house.clock.advance(2.0)
        house.dispatcher._tick()
        await turns()
        former.answer()
        new.answer()
        assert house.told() == [("", [1.0])], "once, and not by the late one"

    in_house(test)


def test_who_names_a_version_gets_its_answer_or_its_error() -> None:
    async def test(house: House) -> None:
        new, _ = await house.serve(2, 1, fallback=1)
        house.ask(1.0, version=2)
        await turns()
        new.answer(NAN)
        assert house.told() == [("", "serving.invalid_output")]

    in_house(test)


def test_a_version_without_workers_leaves_its_queue_to_the_fallback() -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        house.ask(1.0, id_="a")
        await turns()
        house.ask(2.0, id_="b")
        house.refuses = away()
        new.kill()
        house.ask(3.0, id_="c")
        await turns()
        former.answer()
        assert sorted(house.told()) == [("a", [1.0]), ("b", [2.0]), ("c", [3.0])]
        assert former.batches == [[[1.0], [2.0], [3.0]]] or len(former.batches) > 1

    in_house(test)


def test_what_a_version_that_is_followed_meanwhile_cannot_answer_its_successor_does() -> None:
    """It is the fallback now, and the one that it had is gone: in no instant of a swap is a request without another."""

    async def test(house: House) -> None:
        one, two = await house.serve(1, 2)
        seen = taps(house)
        house.ask(1.0)
        await turns()
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        one.answer(NAN)
        await turns()
        two.answer()
        assert house.told() == [("", [101.0])]
        assert seen == [(1, "serving.invalid_output"), (2, "")]

    in_house(test)


def test_what_the_successor_could_not_answer_does_not_come_back_to_it() -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        house.ask(1.0)
        await turns()
        new.answer(NAN)
        await turns()
        former.answer(NAN)
        await turns()
        assert house.told() == [("", "serving.invalid_output")]
        assert len(new.batches) == 1

    in_house(test)


def test_a_fallback_without_workers_is_not_asked() -> None:
    async def test(house: House) -> None:
        new, former = await house.serve(2, 1, fallback=1)
        house.refuses = away()
        former.kill()
        house.ask(1.0)
        await turns()
        new.answer(InternalError("it broke", code="serving.model_failed"))
        await turns()
        assert house.told() == [("", "serving.model_failed")]

    in_house(test)


def test_what_is_too_late_is_not_given_to_the_fallback() -> None:
    async def test(house: House) -> None:
        _, former = await house.serve(2, 1, fallback=1)
        tried: list[int] = []
        house.dispatcher.tap(lambda model, version, *_: tried.append(version))
        house.ask(1.0, deadline=house.clock.now() + 1.0)
        await turns()
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        assert house.told() == [("", "serving.deadline")]
        assert former.batches == []
        assert tried == [2]

    in_house(test)


def test_when_a_version_with_a_share_goes_the_others_answer() -> None:
    async def test(house: House) -> None:
        _, two = await house.serve(1, 2)
        house.dispatcher.share("sums", {1: 0.5, 2: 0.5})
        await house.dispatcher.unload("sums", 1)
        house.ask(1.0)
        await turns()
        two.answer()
        assert house.told() == [("", [101.0])]

    in_house(test)


def test_a_version_of_which_not_all_workers_start_is_not_loaded() -> None:
    async def test(house: House) -> None:
        house.most_started = 1
        with pytest.raises(Unavailable):
            await house.dispatcher.load(source(1))
        assert [worker.ended for worker in house.started] == [True]

    in_house(test, DispatchSettings(workers=2))


def test_shares_are_kept_by_what_is_drawn() -> None:
    async def test(house: House) -> None:
        one, two = await house.serve(1, 2)
        house.dispatcher.share("sums", {1: 0.9, 2: 0.1}, fallback=1)
        house.draws += [0.5, 0.95]
        house.ask(1.0)
        house.ask(2.0)
        await turns()
        one.answer()
        two.answer()
        assert house.told() == [("", [1.0]), ("", [102.0])]
        assert [answer.version for _, answer in house.outcomes if isinstance(answer, Answer)] == [1, 2]

    in_house(test)


def test_a_full_queue_says_when_to_come_again() -> None:
    async def test(house: House) -> None:
        await house.serve(1)
        for _ in range(3):
            house.ask(1.0)
        (_, refused) = house.outcomes[0]
        assert isinstance(refused, Overloaded)
        assert refused.retry_after_s > 0

    in_house(test, DispatchSettings(most_queued=2))


def test_a_deadline_ends_the_wait_in_the_queue_and_at_the_worker() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0, id_="with it", deadline=house.clock.now() + 1.0)
        await turns()
        house.ask(2.0, id_="behind", deadline=house.clock.now() + 1.0)
        house.ask(3.0, id_="patient")
        house.clock.advance(1.0)
        house.dispatcher._tick()
        assert sorted(house.told()) == [("behind", "serving.deadline"), ("with it", "serving.deadline")]
        worker.answer()
        worker.answer()
        assert worker.batches == [[[1.0]], [[3.0]]]
        assert house.told()[2] == ("patient", [3.0])

    in_house(test)


def test_a_worker_that_hangs_is_killed_and_its_batch_is_tried_once_more() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        house.clock.advance(9.0)
        house.dispatcher._tick()
        assert house.started[0].alive
        house.clock.advance(1.0)
        house.dispatcher._tick()
        assert not worker.alive
        await turns()
        house.started[1].answer()
        assert house.told() == [("", [1.0])]

    in_house(test)


def test_a_fault_of_one_request_is_not_the_others() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0, id_="bad")
        house.ask(2.0, id_="good")
        await turns()
        worker.answer(BadInput("no such category", code="serving.category"))
        await turns()
        worker.answer(BadInput("no such category", code="serving.category"))
        worker.answer()
        assert house.told() == [("bad", "serving.category"), ("good", [2.0])]

    in_house(test)


def test_what_the_model_does_not_take_reaches_no_worker() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.dispatcher.submit(
            Request("sums", {"x": np.zeros((1, 3))}), lambda outcome: house.outcomes.append(("", outcome))
        )
        await turns()
        assert house.told() == [("", "serving.input_form")]
        assert worker.batches == []

    in_house(test)


def test_a_worker_that_writes_rubbish_is_replaced() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        worker.answer(IntegrityError("rubbish", code="serving.memory"))
        assert not worker.alive
        await turns()
        house.started[1].answer()
        assert house.told() == [("", [1.0])]

    in_house(test)


def test_a_worker_that_grows_too_large_is_replaced_without_a_lost_request() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        worker.resident_bytes = 3 << 20
        house.ask(1.0, id_="a")
        await turns()
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        _, fresh = house.started
        house.ask(2.0, id_="b")
        await turns()
        assert not house.started[0].ended, "it has something underway"
        fresh.answer()
        worker.answer()
        await turns()
        assert [each.ended for each in house.started] == [True, False]
        assert house.told() == [("b", [2.0]), ("a", [1.0])]
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        assert house.dispatcher.loaded("sums").workers == 1
        assert len(house.started) == 2

    in_house(test, DispatchSettings(resident_bytes=2 << 20))


def test_a_grown_worker_that_dies_before_its_successor_stands_is_replaced_once() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        worker.resident_bytes = 3 << 20
        house.refuses = away()
        house.ask(1.0)
        await turns()
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        worker.kill()
        house.refuses = None
        house.clock.advance(0.5)
        await turns()
        assert len(house.started) == 2
        house.started[1].answer()
        assert house.told() == [("", [1.0])]

    in_house(test, DispatchSettings(resident_bytes=2 << 20))


def test_a_version_that_is_unloaded_answers_what_it_was_given() -> None:
    async def test(house: House) -> None:
        one, two = await house.serve(1, 2)
        house.ask(1.0)
        await turns()
        unloading = asyncio.create_task(house.dispatcher.unload("sums", 1))
        await turns()
        house.dispatcher.share("sums", {2: 1.0})
        assert not house.started[0].ended
        one.answer()
        await unloading
        assert one.ended
        assert not two.ended
        assert house.told() == [("", [1.0])]
        with pytest.raises(ModelUnknown):
            house.dispatcher.loaded("sums", 1)

    in_house(test)


def test_what_is_known_of_a_version_follows_its_share_and_its_workers() -> None:
    async def test(house: House) -> None:
        await house.serve(1, 2)
        house.dispatcher.share("sums", {1: 0.75, 2: 0.25})
        assert house.dispatcher.loaded("sums").share == 0.75
        assert house.dispatcher.loaded("sums") is house.dispatcher.loaded("sums", 1)
        house.dispatcher.share("sums", {1: 0.25, 2: 0.75})
        assert (house.dispatcher.loaded("sums").version, house.dispatcher.loaded("sums", 1).share) == (2, 0.25)
        house.refuses = away()
        house.started[0].kill()
        assert house.dispatcher.loaded("sums", 1).workers == 0

    in_house(test)


def test_what_a_version_did_not_answer_before_it_went_the_next_one_does() -> None:
    async def test(house: House) -> None:
        one, two = await house.serve(1, 2)
        house.ask(1.0)
        await turns()
        house.dispatcher.share("sums", {2: 1.0})
        await house.dispatcher.unload("sums", 1)
        assert one.ended
        await turns()
        two.answer()
        assert house.told() == [("", [101.0])]

    in_house(test, DispatchSettings(drain_s=0.001))


def test_a_version_that_drains_keeps_its_time() -> None:
    async def test(house: House) -> None:
        await house.serve(1, 2)
        house.ask(1.0, deadline=house.clock.now() + 1.0)
        await turns()
        unloading = asyncio.create_task(house.dispatcher.unload("sums", 1))
        await turns()
        house.clock.advance(1.0)
        house.dispatcher._tick()
        assert house.told() == [("", "serving.deadline")]
        house.started[0].answer()
        await unloading

    in_house(test)


def test_a_version_that_comes_when_the_server_stops_is_let_go() -> None:
    async def test(house: House) -> None:
        house.held_up = asyncio.Event()
        loading = asyncio.create_task(house.dispatcher.load(source(1)))
        await turns()
        await house.dispatcher.close(0.0)
        house.held_up.set()
        with pytest.raises(NotReady):
            await loading
        assert [worker.ended for worker in house.started] == [True]

    in_house(test)


def test_a_version_that_hangs_is_asked_no_more_until_it_answers() -> None:
    async def test(house: House) -> None:
        former, hanging = await house.serve(1, 2)
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        house.ask(1.0, id_="first")
        await turns()
        house.clock.advance(2.0)
        house.dispatcher._tick()
        await turns()
        former.answer()
        house.ask(2.0, id_="next")
        await turns()
        former.answer()
        assert house.told() == [("first", [1.0]), ("next", [2.0])]
        hanging.answer()
        house.ask(3.0, id_="again")
        await turns()
        hanging.answer()
        assert hanging.batches == [[[1.0]], [[3.0]]]

    in_house(test)


def test_a_model_all_of_whose_workers_are_stuck_is_not_ready_unless_a_fallback_answers() -> None:
    async def test(house: House) -> None:
        def state() -> tuple[str, str]:
            (found,) = house.dispatcher.models()
            return found.state, found.reason

        _, hanging = await house.serve(1, 2)
        house.dispatcher.share("sums", {2: 1.0})
        house.ask(1.0)
        await turns()
        house.clock.advance(1.9)
        house.dispatcher._tick()
        assert state() == ("READY", "")
        house.clock.advance(0.1)
        house.dispatcher._tick()
        assert state() == ("UNAVAILABLE", "all its workers are at a batch for longer than an attempt may take")
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        assert state() == ("READY", "")
        house.dispatcher.share("sums", {2: 1.0})
        hanging.answer()
        assert state() == ("READY", "")

    in_house(test)


def test_by_default_a_worker_that_hangs_is_replaced_in_time_for_who_waits() -> None:
    async def test(house: House) -> None:
        await house.serve(1)
        house.ask(1.0, deadline=house.clock.now() + ServeSettings().infer_s)
        await turns()
        for _ in range(15):
            house.clock.advance(1.0)
            house.dispatcher._tick()
            await turns()
        house.started[1].answer()
        assert house.told() == [("", [1.0])]

    in_house(test)


def test_what_a_version_errs_on_that_was_just_taken_back_is_answered_by_the_other() -> None:
    async def test(house: House) -> None:
        former, bad = await house.serve(1, 2)
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        house.ask(1.0)
        await turns()
        house.dispatcher.share("sums", {1: 1.0})
        bad.answer(NAN)
        await turns()
        former.answer()
        assert house.told() == [("", [1.0])]

    in_house(test)


def test_who_waited_behind_a_hang_is_answered_once_though_the_worker_dies_later() -> None:
    async def test(house: House) -> None:
        former, hanging = await house.serve(1, 2)
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        house.ask(1.0, id_="with it")
        await turns()
        house.ask(2.0, id_="behind it")
        await turns()
        house.clock.advance(2.0)
        house.dispatcher._tick()
        house.refuses = away()
        hanging.kill()
        await turns()
        while not former.idle:
            former.answer()
            await turns()
        assert sorted(house.told()) == [("behind it", [2.0]), ("with it", [1.0])]

    in_house(test)


def test_what_a_hanging_version_was_given_is_not_held_up_by_its_unloading() -> None:
    async def test(house: House) -> None:
        _, worker = await house.serve(1, 2)
        house.dispatcher.share("sums", {2: 1.0}, fallback=1)
        house.ask(1.0)
        await turns()
        house.dispatcher.share("sums", {1: 1.0})
        unloading = asyncio.create_task(house.dispatcher.unload("sums", 2))
        await turns()
        house.clock.advance(2.0)
        house.dispatcher._tick()
        await turns()
        house.started[0].answer()
        assert house.told() == [("", [1.0])]
        worker.answer()
        await unloading

    in_house(test)


def test_who_is_cancelled_while_a_version_drains_leaves_no_worker() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        unloading = asyncio.create_task(house.dispatcher.unload("sums", 1))
        await turns()
        unloading.cancel()
        await asyncio.wait({unloading})
        assert worker.ended

    in_house(test)


def test_who_stops_answers_what_was_taken_and_takes_no_more() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0, id_="taken")
        await turns()
        closing = asyncio.create_task(house.dispatcher.close())
        await turns()
        house.ask(2.0, id_="late")
        worker.answer()
        await closing
        assert sorted(house.told()) == [("late", "serving.not_ready"), ("taken", [1.0])]

    in_house(test)


def test_all_workers_are_asked_for_the_digest_of_what_they_hold() -> None:
    async def test(house: House) -> None:
        await house.serve(1)
        asked = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        for worker in house.started:
            worker.answer()
        assert await asked == source(1).digest
        asked = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        house.started[0].answer({"digest": np.array([b"other"], object)})
        house.started[1].answer()
        with pytest.raises(IntegrityError):
            await asked

    in_house(test, DispatchSettings(workers=2))


def test_who_looks_sees_what_waits_and_how_many_workers_died() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        house.ask(2.0)
        worker.kill()
        await turns()
        house.ask(3.0)
        (version,) = house.dispatcher.models()[0].versions
        assert (version.workers, version.lost, version.queued) == (1, 1, 2)

    in_house(test)


def test_a_digest_that_a_worker_does_not_live_to_tell_fails() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        told = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        worker.kill()
        with pytest.raises(WorkerLost):
            await told
        house.ask(1.0)
        await turns()
        behind = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        await house.dispatcher.close(0.0)
        with pytest.raises(WorkerLost):
            await behind

    in_house(test)


def test_a_worker_that_is_to_go_goes_after_it_told_its_digest() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        worker.resident_bytes = 3 << 20
        told = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        worker.answer()
        await told
        assert [each.ended for each in house.started] == [True, False]

    in_house(test, DispatchSettings(resident_bytes=2 << 20))


def test_a_worker_that_goes_before_it_told_its_digest_leaves_that_to_the_others() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        house.ask(1.0)
        await turns()
        told = asyncio.create_task(house.dispatcher.digest("sums", 1))
        worker.resident_bytes = 3 << 20
        house.clock.advance(1.0)
        house.dispatcher._tick()
        await turns()
        worker.answer()
        with pytest.raises(NotReady):
            await told
        told = asyncio.create_task(house.dispatcher.digest("sums", 1))
        await turns()
        house.started[1].answer()
        assert await told == source(1).digest

    in_house(test, DispatchSettings(resident_bytes=2 << 20))


def test_models_tell_their_state() -> None:
    async def test(house: House) -> None:
        assert house.dispatcher.models() == ()
        with pytest.raises(ModelUnknown):
            house.dispatcher.loaded("sums")
        await house.dispatcher.load(source(1))
        assert [state.state for state in house.dispatcher.models()] == ["LOADING"]
        with pytest.raises(NotReady):
            await house.dispatcher.infer(Request("sums", rows(1.0)))
        with pytest.raises(Conflict):
            await house.dispatcher.load(source(1))
        house.dispatcher.share("sums", {1: 1.0})
        (state,) = house.dispatcher.models()
        assert (state.state, state.versions[0].share, state.versions[0].workers) == ("READY", 1.0, 1)
        house.refuses = away()
        with pytest.raises(Unavailable):
            await house.dispatcher.load(source(2))
        assert "no worker can be started" in house.dispatcher.models()[0].reason
        await house.dispatcher.unload("sums", 1)
        assert [state.state for state in house.dispatcher.models()] == ["UNAVAILABLE"]

    in_house(test)


def test_who_does_not_wait_any_more_disturbs_nobody() -> None:
    async def test(house: House) -> None:
        (worker,) = await house.serve(1)
        waiting = asyncio.create_task(house.dispatcher.infer(Request("sums", rows(1.0))))
        house.ask(2.0)
        await turns()
        waiting.cancel()
        await turns()
        worker.answer()
        assert house.told() == [("", [2.0])]

    in_house(test)


def test_a_fake_worker_is_asked_one_thing_at_a_time() -> None:
    worker = FakeWorker(source(1))
    worker.compute({"x": [np.zeros((1, 2))]}, lambda _: None)
    with pytest.raises(AssertionError):
        worker.compute({"x": [np.zeros((1, 2))]}, lambda _: None)
