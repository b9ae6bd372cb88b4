"""Settings: the file, the environment over it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from aimass.proto.errors import BadInput
from aimass.proto.home import load_home
from aimass.proto.settings import read_settings
from aimass.server.settings import ServerSettings, load_settings, template

_PREFIX = "AIMASS_SERVER_"
_TEXT = template("hub", "0.0.0.0:8443", "0.0.0.0:8444")


def _read(**environment: str) -> ServerSettings:
    return read_settings(ServerSettings, _TEXT, "server.toml", _PREFIX, environment)


def test_the_file_alone_is_read_as_it_stands() -> None:
    assert _read().listen == "0.0.0.0:8443"
    assert _read(PATH="/bin", AIMASS_CLIENT_NAME="another").name == "hub"


def test_a_variable_stands_over_the_file_also_inside_a_table() -> None:
    settings = _read(
        AIMASS_SERVER_LISTEN="[::]:1", AIMASS_SERVER_LIMITS__IDLE_S="2.5", AIMASS_SERVER_LIMITS__STREAMS_PER_PEER="9"
    )
    assert (settings.listen, settings.limits.idle_s, settings.limits.streams_per_peer) == ("[::]:1", 2.5, 9)
    assert settings.limits.max_norm == _read().limits.max_norm


def test_text_that_looks_like_a_number_stays_text_where_text_is_asked() -> None:
    assert _read(AIMASS_SERVER_NAME="007").name == "007"


def test_a_list_is_written_as_toml_writes_it_and_replaces_that_of_the_file() -> None:
    assert _read(AIMASS_SERVER_OFFLINE__STORES='["file:///a", "s3://b/c"]').offline.stores == ("file:///a", "s3://b/c")
    assert _read(AIMASS_SERVER_OFFLINE__STORES="[]").offline.stores == ()


@pytest.mark.parametrize("text", ["file:///a", '"file:///a"', "[1]", '["a"', '["a"]\nname = "other"', "[" * 5_000])
def test_what_is_no_list_of_the_kind_is_refused_by_the_settings_name(text: str) -> None:
    with pytest.raises(BadInput, match="stores"):
        _read(AIMASS_SERVER_OFFLINE__STORES=text)


@pytest.mark.parametrize(
    ("variable", "value", "word"),
    [
        ("AIMASS_SERVER_LISTENS", "x", "AIMASS_SERVER_LISTEN"),
        ("AIMASS_SERVER_LIMITS", "{}", "AIMASS_SERVER_LIMITS__IDLE_S"),
        ("AIMASS_SERVER_LIMITS__IDLE_S", "-1", "idle_s"),
        ("AIMASS_SERVER_LIMITS__IDLE_S", "soon", "idle_s"),
        ("AIMASS_SERVER_LIMITS__STREAMS_PER_PEER", "0", "limits.streams_per_peer"),
    ],
)
def test_an_unknown_variable_or_a_value_out_of_range_is_refused_with_what_there_is(
    variable: str, value: str, word: str
) -> None:
    with pytest.raises(BadInput) as caught:
        _read(**{variable: value})
    assert word in str(caught.value).replace(variable, "", 1)


def test_rates_that_no_transfer_gets_on_with_are_refused_on_both_sides(tmp_path: Path) -> None:
    (tmp_path / "server.toml").write_text(_TEXT)
    (tmp_path / "client.toml").write_text(
        'name = "north"\nserver = "a:1"\nenrol = "a:2"\n[limits]\nup_bytes_per_s = 0\n'
    )
    assert load_settings(tmp_path, {}).limits.up_bytes_per_s == 0
    assert load_home(tmp_path, {"AIMASS_CLIENT_LIMITS__DOWN_BYTES_PER_S": "65536"}).limits.down_bytes_per_s == 65536
    for way in ("UP", "DOWN"):
        with pytest.raises(BadInput) as server:
            load_settings(tmp_path, {f"AIMASS_SERVER_LIMITS__{way}_BYTES_PER_S": "65535"})
        with pytest.raises(BadInput) as partner:
            load_home(tmp_path, {f"AIMASS_CLIENT_LIMITS__{way}_BYTES_PER_S": "65535"})
        assert server.value.code == partner.value.code == "settings.rate"


def test_a_key_that_is_no_setting_is_refused_in_the_file_too() -> None:
    with pytest.raises(BadInput, match="lisen"):
        read_settings(ServerSettings, _TEXT.replace("\nlisten", "\nlisen"), "server.toml", _PREFIX, {})
