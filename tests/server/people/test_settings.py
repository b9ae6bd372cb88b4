"""`[people]`: what would admit nobody, or anybody, is told before anything listens."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from aimass.proto.errors import AimassError
from aimass.server.datasets.settings import load_settings as load_data
from aimass.server.datasets.settings import template as data_template
from aimass.server.people.settings import PEOPLE_TEMPLATE, PeopleSettings, check_people
from aimass.server.settings import load_settings, template
from tests.support.identity import PEOPLE, RULES


def test_both_services_read_what_stands_in_their_settings(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(template("hub", "127.0.0.1:1", "127.0.0.1:2") + PEOPLE)
    (tmp_path / "data.toml").write_text(data_template("127.0.0.1:1", ["file:///data"]) + PEOPLE)
    assert load_settings(tmp_path, {}).people == load_data(tmp_path, {}).people == RULES
    over = {"AIMASS_SERVER_PEOPLE__AUDIENCE": "another"}
    assert load_settings(tmp_path, over).people.audience == "another"


def test_the_template_that_teaches_is_one_that_works_when_its_signs_are_taken_away(tmp_path: Path) -> None:
    text = template("hub", "127.0.0.1:1", "127.0.0.1:2")
    assert PEOPLE_TEMPLATE in text
    (tmp_path / "server.toml").write_text(text)
    assert load_settings(tmp_path, {}).people == PeopleSettings()
    _, head, rest = PEOPLE_TEMPLATE.partition("# [people]")
    (tmp_path / "server.toml").write_text(text + "\n".join(line[2:] for line in (head + rest).splitlines()))
    assert load_settings(tmp_path, {}).people.roles == {"aimass-analysts": "analyst"}


@pytest.mark.parametrize("name", ["audience", "keys", "services", "roles"])
def test_half_of_it_is_refused(name: str) -> None:
    empty = msgspec.structs.replace(RULES, **{name: getattr(PeopleSettings(), name)})
    with pytest.raises(AimassError, match=name):
        check_people(empty)


def test_rules_without_an_issuer_are_no_rules() -> None:
    with pytest.raises(AimassError, match="names no issuer"):
        check_people(msgspec.structs.replace(RULES, issuer=""))


@pytest.mark.parametrize(
    "url",
    [
        "http://login.example",
        "login.example",
        "https://",
        "https://me:secret@login.example",
        "http://127.0.0.1.evil.example/",
        "ftp://login.example",
        "http://localhost@evil.example",
    ],
)
@pytest.mark.parametrize("setting", ["issuer", "keys"])
def test_a_provider_is_reached_over_tls_and_no_password_stands_in_an_address(setting: str, url: str) -> None:
    if setting == "keys" and "://" not in url:
        return  # a file
    with pytest.raises(AimassError) as refused:
        check_people(msgspec.structs.replace(RULES, **{setting: url}))
    assert refused.value.code == "people.url"
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9000/keys", "http://localhost/keys", "https://login.example/keys"])
def test_addresses_that_are_well(url: str) -> None:
    rules = msgspec.structs.replace(RULES, issuer=url, keys=url)
    assert check_people(rules) is rules


@pytest.mark.parametrize(
    "line",
    [
        'roles = {doctors = "partner"}',
        'roles = {doctors = "service"}',
        'algorithms = ["none"]',
        'algorithms = ["HS256"]',
        "algorithms = []",
        'services = ["Not a name"]',
        "leeway_s = 3600",
        'realm = "a@b"',
        "unknown = 1",
    ],
)
def test_nobody_becomes_a_partner_by_a_token_and_no_weak_signature_counts(tmp_path: Path, line: str) -> None:
    (tmp_path / "server.toml").write_text(template("hub", "127.0.0.1:1", "127.0.0.1:2") + f"[people]\n{line}\n")
    with pytest.raises(AimassError):
        load_settings(tmp_path, {})
