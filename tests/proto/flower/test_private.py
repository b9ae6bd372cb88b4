"""What Flower apps need of flwr's private names. Where this fails, flwr has changed: look at what each test names.

Tried with flwr 1.41.0. When it fails: find where flwr 1.42's own `supernode/runtime/run_clientapp.py` gets the same thing
from, change `aimass.proto.flower.private` and `SERIES` in `installed`, and run the conformance cases (`tests/e2e/test_flower*.py`).
"""

from __future__ import annotations

import inspect
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from aimass.proto.errors import BadInput, NotInstalled, VersionRefused
from aimass.proto.flower import private
from aimass.proto.flower.installed import SERIES, check_installed
from aimass.proto.flower.records import Told


def test_this_is_the_series_that_the_private_names_were_tried_with() -> None:
    assert metadata.version("flwr").startswith(f"{SERIES}."), private.__doc__


def test_what_is_missing_or_of_another_series_is_named_with_the_line_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    check_installed()
    monkeypatch.setattr(metadata, "version", lambda name: "1.42.0")
    with pytest.raises(VersionRefused, match=r"got 1\.42\.0; allowed: 1\.41\.\*.*pip install 'aimass\[flower\]'"):
        check_installed()

    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(NotInstalled, match=r"pip install 'aimass\[flower\]'"):
        check_installed()


def test_a_message_that_an_app_builds_comes_from_who_this_process_is_said_to_be() -> None:
    private.identify(run_id=7, node_id=42)
    message = private.named(Message(RecordDict(), 43, "train.foo"), "m1")
    assert (message.metadata.run_id, message.metadata.src_node_id, message.metadata.message_id) == (7, 42, "m1")


def test_a_reply_goes_back_to_the_message_that_it_answers() -> None:
    message = private.instruction(Told("evaluate.bar", RecordDict(), "5"), run_id=7, node_id=42, message_id="m2")
    for reply in (Message(RecordDict(), reply_to=message), Message(Error(0, "no"), reply_to=message)):
        about = reply.metadata
        assert (about.message_type, about.reply_to_message_id, about.group_id) == ("evaluate.bar", "m2", "5")
        assert (about.src_node_id, about.dst_node_id) == (42, private.SERVER_NODE)


def test_an_app_is_loaded_from_its_folder_and_nothing_else_is_taken_for_one(tmp_path: Path) -> None:
    (tmp_path / "flower_private_case.py").write_text(
        "from flwr.clientapp import ClientApp\napp = ClientApp()\nother = 1\n"
    )
    assert isinstance(private.load_client_app("flower_private_case:app", tmp_path), ClientApp)
    for reference in ("flower_private_case:other", "flower_private_case:absent", "flower_private_case"):
        with pytest.raises(BadInput, match="no ClientApp"):
            private.load_client_app(reference, tmp_path)
    with pytest.raises(BadInput, match="no ServerApp or Strategy"):
        private.load_server_part("flower_private_case:app", tmp_path)


def test_an_app_answers_the_types_that_it_has_functions_for() -> None:
    app = ClientApp()

    @app.train()  # type: ignore[untyped-decorator]
    @app.evaluate("foo")  # type: ignore[untyped-decorator]
    def function(message: Message, context: Context) -> Message:
        return message

    asked = ("train", "train.foo", "evaluate", "evaluate.foo", "query")
    assert [private.answers(app, each) for each in asked] == [True, False, False, True, False]


def test_a_grid_describes_its_run_by_its_number() -> None:
    assert private.described_run(7).run_id == 7


def test_an_app_without_a_main_is_one_of_the_older_server() -> None:
    from flwr.serverapp import ServerApp

    app = ServerApp()
    assert private.serves_legacy(app)
    app.main()(lambda grid, context: None)
    assert not private.serves_legacy(app)


def test_the_older_servers_parameters_are_arrays_without_names() -> None:
    from flwr.common import ndarrays_to_parameters

    record = private.arrays_of(ndarrays_to_parameters([np.ones(2), np.zeros(())]))
    assert {name: array.numpy().tolist() for name, array in record.items()} == {"0": [1.0, 1.0], "1": 0.0}


def test_the_older_server_asks_all_at_once_and_adds_up_in_the_order_of_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    from flwr.server import server

    unordered = [(SimpleNamespace(cid=str(number)), number) for number in (10, 2, 7)]
    asked: list[Any] = []

    def clients(client_instructions: Any, max_workers: Any, timeout: Any, group_id: Any) -> Any:
        asked.append((max_workers, timeout, group_id))
        return unordered, []

    for name in ("fit_clients", "evaluate_clients"):
        parameters = inspect.signature(getattr(server, name)).parameters
        assert list(parameters) == ["client_instructions", "max_workers", "timeout", "group_id"]
        monkeypatch.setattr(server, name, clients)
    expected: list[int] = []
    private.order_legacy_replies(expected.append)
    for name in ("fit_clients", "evaluate_clients"):
        results, failures = getattr(server, name)(range(3), max_workers=None, timeout=2.0, group_id=1)
        assert ([number for _, number in results], failures) == ([2, 7, 10], [])
    assert asked == [(3, 2.0, 1)] * 2  # one thread for each node
    assert expected == [3, 3]


class TestNumPyClient:
    """An app made from a `client_fn`, asked as the newer strategies ask."""

    @staticmethod
    def _app() -> ClientApp:
        from flwr.client import NumPyClient

        class Plus(NumPyClient):  # type: ignore[misc]
            def fit(self, parameters: Any, config: Any) -> Any:
                return [array + config["by"] for array in parameters], 7, {"loss": 0.5, "note": "ä", "deep": True}

            def evaluate(self, parameters: Any, config: Any) -> Any:
                return float(parameters[0].sum()), 3, {"accuracy": 0.25}

        return ClientApp(client_fn=lambda context: Plus().to_client())

    @staticmethod
    def _asked(app: ClientApp, kind: str, content: RecordDict) -> RecordDict:
        context = Context(7, 42, {}, RecordDict(), {})
        sent = private.to_legacy(kind, content)
        reply = app(private.instruction(Told(kind, sent, ""), 7, 42, "m"), context)
        return private.from_legacy(kind, content, reply.content)

    def test_it_is_told_from_an_app_of_functions(self) -> None:
        assert private.takes_legacy(self._app())
        assert not private.takes_legacy(ClientApp())

    def test_training_gives_arrays_under_the_names_that_came_and_metrics_with_the_count(self) -> None:
        arrays = ArrayRecord({"b.weight": Array(np.zeros(2)), "a.bias": Array(np.array(1.0))})
        content = RecordDict({"arrays": arrays, "config": ConfigRecord({"by": 2.0, "server-round": 1})})
        reply = self._asked(self._app(), "train", content)
        assert [(name, array.numpy().tolist()) for name, array in reply["arrays"].items()] == [
            ("b.weight", [2.0, 2.0]),
            ("a.bias", 3.0),
        ]
        assert reply["metrics"] == MetricRecord({"loss": 0.5, "num-examples": 7})
        assert reply["config"] == ConfigRecord({"note": "ä", "deep": True})

    def test_evaluation_gives_loss_and_metrics_with_the_count(self) -> None:
        content = RecordDict({"arrays": ArrayRecord([np.full(2, 2.0)]), "config": ConfigRecord()})
        reply = self._asked(self._app(), "evaluate", content)
        assert reply["metrics"] == MetricRecord({"accuracy": 0.25, "num-examples": 3, "loss": 4.0})

    def test_legacy_content_stays_as_it_is(self) -> None:
        from flwr.common import ndarrays_to_parameters
        from flwr.common.typing import FitIns
        from flwr.compat.common.recorddict_compat import fitins_to_recorddict

        content = fitins_to_recorddict(FitIns(ndarrays_to_parameters([np.zeros(1)]), {"by": 1.0}), keep_input=True)
        assert private.to_legacy("train", content) is content

    def test_two_array_records_are_refused(self) -> None:
        content = RecordDict({"a": ArrayRecord([np.zeros(1)]), "b": ArrayRecord([np.zeros(1)])})
        with pytest.raises(BadInput, match="one array record; got 2"):
            private.to_legacy("train", content)
