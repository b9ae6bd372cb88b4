"""The page of Serving over a real prediction server: what answers, how often it failed, and that it is away."""

from __future__ import annotations

import json
import math
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from aimass.explain.app.house import House
from aimass.explain.app.login import LoggedIn, Logins
from aimass.explain.app.pages_table import pages_for
from aimass.explain.app.people import Person
from aimass.explain.app.serving_figures import answered, quantile
from aimass.explain.app.settings import AppSettings
from aimass.privacy.pki import Role
from aimass.proto.errors import BadInput
from aimass.proto.secret import Secret
from aimass.proto.values import canonical_json
from aimass.proto.views import PersonView
from aimass.server.serving.tokens import TokenFile
from tests.explain.app.conftest import Opened, opened_page
from tests.explain.app.shown import said
from tests.support.oidc import identity_server
from tests.support.served_heart import served_heart


def test_versions_requests_and_the_audit_log_of_a_real_server(opened: Opened, tmp_path: Path) -> None:
    with served_heart(tmp_path) as port:
        url = f"http://127.0.0.1:{port}"
        body = json.dumps({"age": 57, "sex": "Male"}).encode()
        request = urllib.request.Request(f"{url}/predict/heart", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request) as response:
            assert response.status == 200
        page = opened("serving", AppSettings(serving=(url,)))
        assert not page.exception
        assert "**heart** :green-badge[ready]" in said(page)
        (table,) = [one.value for one in page.dataframe if "99 % below" in one.value.columns]
        assert table["version"].tolist() == [1]
        assert table["requests"].tolist() == ["1"]
        assert table["errors"].tolist() == ["0 %"]
        assert any("decision" in one.value.columns for one in page.dataframe)
    page.run()
    page = opened("serving", AppSettings(serving=(url,)))
    assert "No serving process answers there" in said(page)


def test_without_a_server_the_page_says_what_to_do(opened: Opened) -> None:
    page = opened("serving")
    assert "knows no prediction server" in said(page)
    assert page.code


def test_commands_and_settings_in_what_a_server_says_are_shown_as_such(opened: Opened) -> None:
    def script() -> None:
        from aimass.explain.app.views.serving import _server
        from aimass.proto.serving_views import AuditLine, ModelStatus, RefusalView, ServingStatus, WatchView

        cure = "it did not start. Raise `start_s` in the settings of serving."
        watch = WatchView(target="heart", serving=1, refused=(RefusalView(version=2, at=0.0, reason=cure, again=""),))
        model = ModelStatus(name="heart", state="LOADING", reason=cure, versions=(), watch=watch)
        line = AuditLine(at=0.0, target="heart", kind="refused", version=2, text=cure)
        _server("here", ServingStatus(release="1", began_at=0.0, models=(model,), decisions=(line,)), ())

    page = AppTest.from_function(script, default_timeout=60).run()
    assert not page.exception
    shown = [one.value for one in page.markdown if "start_s" in one.value]
    assert len(shown) == 2
    assert all("Raise `start_s` in" in one for one in shown)
    assert page.dataframe[0].value["why"].tolist() == ["it did not start. Raise start_s in the settings of serving."]


FIGURES = """# TYPE aimass_serving_requests counter
aimass_serving_requests_total{model="heart",version="3",outcome="ok"} 98
aimass_serving_requests_total{model="heart",version="3",outcome="serve.late"} 2
# TYPE aimass_serving_compute_seconds histogram
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="0.001"} 60
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="0.01"} 97
aimass_serving_compute_seconds_bucket{model="heart",version="3",le="+Inf"} 98
"""


def test_figures_are_counted_by_version() -> None:
    (one,) = answered(FIGURES)
    assert (one.model, one.version, one.requests, one.failed) == ("heart", "3", 100, 2)
    assert (one.median, one.p99) == (0.001, math.inf)
    assert answered("") == ()


@pytest.mark.parametrize(
    "text",
    [
        "no figure at all {",
        FIGURES.replace('le="0.01"', 'le="soon"'),
        FIGURES.replace(" 97\n", " many\n"),
        'aimass_serving_requests_total{model="heart",version="3",outcome="ok"} NaN\n',
        'aimass_serving_requests_total{model="heart",version="3",outcome="ok"} +Inf\n',
    ],
)
def test_figures_of_another_program_are_a_named_error(text: str) -> None:
    with pytest.raises(BadInput) as raised:
        answered(text)
    assert raised.value.code == "app.figures"


def test_a_histogram_without_a_last_bin_or_with_no_numbers_has_no_quantile_that_is_known() -> None:
    (one,) = answered(FIGURES.replace('le="+Inf"} 98', 'le="+Inf"} NaN'))
    assert one.requests == 100
    assert math.isinf(one.p99)


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 1.0), (0.51, 2.0), (1.0, 4.0)])
def test_a_quantile_is_the_end_of_the_bin_that_holds_it(share: float, expected: float) -> None:
    assert quantile([(1.0, 5.0), (2.0, 6.0), (4.0, 10.0)], share) == expected
    assert math.isnan(quantile([], 0.5))


# ---------------------------------------------------------------- with a login


PEOPLE = """
[people]
issuer = "{url}"
audience = "aimass-app"
keys = "{url}/keys"
realm = "house"
[people.roles]
doctors = "analyst"
admins = "operator"
"""


class Words:
    """What the training server says of a token, by its text."""

    def __init__(self) -> None:
        self.role = dict[bytes, str]()

    def __call__(self, token: Secret) -> PersonView:
        return PersonView(name="somebody@house", role=self.role[token.reveal()], through="app", until=math.inf)


def test_the_figures_are_read_with_the_token_of_the_person_who_looks(
    entered: Callable[..., House], tmp_path: Path
) -> None:
    with identity_server() as identity:
        (tmp_path / "serve.toml").write_text(PEOPLE.format(url=identity.url))
        (tmp_path / "tokens.json").write_bytes(canonical_json(TokenFile()))
        words, held = Words(), list[LoggedIn]()
        with served_heart(
            tmp_path, "--settings", str(tmp_path / "serve.toml"), "--tokens", str(tmp_path / "tokens.json")
        ) as port:
            settings = AppSettings(login="login.toml", home=str(tmp_path), serving=(f"http://127.0.0.1:{port}",))
            house = entered(settings, identity=lambda: held[-1])
            house.logins = Logins(words)

            def shown(person: str, role: str) -> Any:
                """The page of somebody of whom the training server says a role, whatever serving says."""
                token = Secret(identity.tokens(person)["id_token"].encode())
                words.role[token.reveal()] = role
                held.append(LoggedIn(person, token))
                return opened_page("serving")

            page = shown("olga", "operator")
            assert not page.exception
            assert "**heart** :green-badge[ready]" in said(page)
            page = shown("cleo", "operator")  # what the app believes of her is nothing to serving
            assert "serve.role" in said(page)
            assert "**heart**" not in said(page)
            page = shown("cleo", "analyst")
            assert [error.value for error in page.exception] == ["there is no such page; got serving."]
            assert "**heart**" not in said(page)


def test_an_analyst_who_logs_in_has_no_such_page_and_on_ones_own_machine_there_is_one() -> None:
    token = Secret(b"head.body.signature")
    for role, login, there in (
        (Role.ANALYST, token, False),
        (Role.SCIENTIST, token, True),
        (Role.OPERATOR, token, True),
        (Role.ANALYST, None, True),
    ):
        names = {page.name for page in pages_for(Person("cleo", role, login))}
        assert ("serving" in names) is there
        assert "models" in names
