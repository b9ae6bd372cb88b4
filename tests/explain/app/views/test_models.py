"""The page of Models: what the registry says, verified; and moves of its aliases, which only operators see."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from streamlit.testing.v1 import AppTest

from aimass.explain.app.settings import AppSettings
from aimass.privacy.keys import write_private
from aimass.privacy.pki import Role
from aimass.proto.objects import open_objects
from aimass.proto.plan import TaskRef
from aimass.proto.registry.entries import Interval, Part
from aimass.proto.registry.layout import versions_prefix
from aimass.proto.values import canonical_json
from tests.explain.app.conftest import Opened
from tests.explain.app.shown import said
from tests.support.authorities import Authority
from tests.support.registries import key_of, put_version, reading, trusting, version_of
from tests.support.served_heart import FIRST, TASK, publish_heart


@pytest.fixture
def registry(tmp_path: Path) -> AppSettings:
    """Two versions of heart, the first one champion; `olga` may publish and promote."""
    url, trust = publish_heart(tmp_path)
    second = msgspec.structs.replace(
        version_of("heart", 2, FIRST),
        task=TaskRef(name="heart", digest="1" * 64),
        schema=TASK.schema,
        parameters=Part(digest=version_of("heart", 2, FIRST).parameters.digest, bytes=len(FIRST)),
        metrics={"auc": Interval(mean=0.9, rows=100, low=0.85, high=0.95)},
        card="# heart, version 2\n\n<script>alert(1)</script>",
    )
    put_version(open_objects(url), second, "olga", FIRST)
    return AppSettings(registry=url, trust=str(trust))


def home_of(folder: Path, role: Role) -> str:
    """Olga's folder, with a certificate of this role and the key that she signs with."""
    (folder / "trust").mkdir(parents=True)
    (folder / "keys").mkdir(mode=0o700)
    (folder / "trust" / "certificate.pem").write_bytes(Authority().pair("olga", role=role)[1])
    write_private(folder / "keys" / "identity.key", key_of("olga"))
    (folder / "client.toml").write_text('name = "olga"\nserver = "127.0.0.1:1"\nenrol = "127.0.0.1:2"\n')
    return str(folder)


def as_role(settings: AppSettings, folder: Path, role: Role) -> AppSettings:
    return msgspec.structs.replace(settings, home=home_of(folder / "olga", role))


def champion(settings: AppSettings) -> int:
    return reading(open_objects(settings.registry), "olga").resolve("heart@champion").version.number


def test_versions_are_told_with_who_signed_them_and_what_names_them(opened: Opened, registry: AppSettings) -> None:
    page = opened("models", registry, version="2")
    assert not page.exception
    (table,) = [one.value for one in page.dataframe if "signed by" in one.value.columns]
    assert table["version"].tolist() == [2, 1]
    assert table["named"].tolist() == ["", "champion"]
    assert set(table["signed by"]) == {"olga"}
    assert table["auc"].tolist()[0] == "0.9000 (0.8500 to 0.9500)"
    assert not [one for one in page.markdown if one.allow_html]


def test_two_versions_are_held_against_each_other(opened: Opened, registry: AppSettings) -> None:
    page = opened("models", registry, version="2", against="1")
    (table,) = [one.value for one in page.dataframe if "change" in one.value.columns]
    assert "auc" in table["what"].tolist()
    assert "task" in table["what"].tolist()


def test_a_version_whose_bytes_were_changed_is_not_believed_and_the_page_says_so(
    opened: Opened, registry: AppSettings, tmp_path: Path
) -> None:
    (path,) = [one for one in (tmp_path / "registry" / versions_prefix("heart")).iterdir() if "2" in one.name]
    path.write_bytes(path.read_bytes().replace(b"0.9", b"0.8"))
    page = opened("models", registry)
    assert "Version 2 is not believed" in said(page)
    assert page.selectbox(key="version").options == ["heart@1"]


def test_who_is_no_operator_does_not_know_of_promoting(opened: Opened, registry: AppSettings, tmp_path: Path) -> None:
    for role in (Role.ANALYST, Role.SCIENTIST):
        page = opened("models", as_role(registry, tmp_path / role, role))
        assert "Promote" not in said(page)
        assert not [one for one in page.button if one.key in ("promote", "back")]


@pytest.fixture
def two(registry: AppSettings) -> AppSettings:
    """Two models of two versions each."""
    store = open_objects(registry.registry)
    for number in (1, 2):
        put_version(store, version_of("lungs", number, FIRST), "olga", FIRST)
    return registry


def shown_version(page: AppTest) -> str:
    assert not page.exception
    said_of_it = page.query_params["version"]
    assert page.selectbox(key="version").value == (said_of_it[0] if isinstance(said_of_it, list) else said_of_it)
    return f"{page.selectbox(key='registered').value}@{page.selectbox(key='version').value}"


def test_another_model_is_shown_in_its_newest_version_and_not_in_the_formers_number(
    opened: Opened, two: AppSettings
) -> None:
    page = opened("models", two, registered="heart", version="1", against="2")
    assert shown_version(page) == "heart@1"
    page.selectbox(key="registered").select("lungs").run()
    assert shown_version(page) == "lungs@2"
    assert page.selectbox(key="against").value == "none"
    page.selectbox(key="version").select("1").run()
    assert shown_version(page) == "lungs@1"
    assert shown_version(page.run()) == "lungs@1"


@pytest.mark.parametrize(("named", "expected"), [("1", "lungs@1"), (None, "lungs@2")])
def test_a_link_to_another_model_is_followed_to_the_version_that_it_names(
    opened: Opened, two: AppSettings, named: str | None, expected: str
) -> None:
    page = opened("models", two, registered="heart", version="1")
    page.query_params["registered"] = "lungs"
    if named:
        page.query_params["version"] = named
    else:
        del page.query_params["version"]
    assert shown_version(page.run()) == expected


def moved(page: AppTest) -> AppTest:
    assert not page.exception
    return page


def test_an_operator_promotes_after_typing_the_versions_name_and_rolls_back(
    opened: Opened, registry: AppSettings, tmp_path: Path
) -> None:
    settings = as_role(registry, tmp_path, Role.OPERATOR)
    page = moved(opened("models", settings, version="2"))
    assert page.button(key="promote").disabled
    page.text_input(key="promote-because").set_value("better on the wards").run()
    page.text_input(key="promote-typed").set_value("heart@1").run()
    assert page.button(key="promote").disabled
    page.text_input(key="promote-typed").set_value("heart@2").run()
    assert champion(settings) == 1
    moved(page.button(key="promote").click().run())
    assert champion(settings) == 2
    state = reading(open_objects(settings.registry), "olga").history("heart", "champion")[-1]
    assert (state.by, state.reason) == ("olga", "better on the wards")

    page.text_input(key="back-because").set_value("worse at night").run()
    page.text_input(key="back-typed").set_value("heart@champion").run()
    moved(page.button(key="back").click().run())
    assert champion(settings) == 1


def test_an_operator_whom_the_trust_file_does_not_let_promote_is_told(
    opened: Opened, registry: AppSettings, tmp_path: Path
) -> None:
    Path(registry.trust).write_bytes(canonical_json(trusting("olga", may=("publish",))))
    page = opened("models", as_role(registry, tmp_path, Role.OPERATOR), version="2")
    page.text_input(key="promote-because").set_value("because").run()
    page.text_input(key="promote-typed").set_value("heart@2").run()
    page.button(key="promote").click().run()
    assert page.error
    assert "trust" in said(page)


def test_without_a_registry_the_page_says_what_to_do(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("AIMASS_REGISTRY", raising=False)
    assert "knows no registry" in said(opened("models"))


def test_the_key_that_signs_is_olgas() -> None:
    public = key_of("olga").public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    assert trusting("olga").signers[0].key == public.hex()
