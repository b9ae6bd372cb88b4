"""`up.toml`, and the lines of others' settings that follow it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.errors import BadInput
from aimass.proto.up.settings import FILE, Ports, UpSettings, changed, chosen, conform, read_up, said, template

_HOME = UpSettings(folder="/srv/one home")
_CLIENT = """name = "operator"
server = "127.0.0.1:8443"   # work: mutual TLS
enrol = "127.0.0.1:8444"    # enrolment
# data = "data.example.org:8445"   # the data set service, if there is one
log = "text"
[limits]
data = "0.0.0.0:1"
"""


_FOLDERS = st.text(st.characters(exclude_categories=["C"], exclude_characters='"\\'), min_size=1)


@given(st.lists(st.integers(1, 65_535), min_size=8, max_size=8, unique=True), _FOLDERS)
def test_what_is_written_is_read_again(numbers: list[int], folder: str) -> None:
    ports = Ports(**dict(zip(Ports.__struct_fields__, numbers, strict=True)))
    settings = UpSettings(folder=folder, ports=ports)
    assert _read(template(settings)) == settings


def _read(text: str) -> UpSettings:
    from aimass.proto.values import decode_toml

    return decode_toml(UpSettings, text, "up.toml")


def test_ports_move_in_the_lines_of_others_and_nothing_else_does() -> None:
    new = UpSettings(folder=_HOME.folder, ports=changed(Ports(), {"server": 9443, "data": 9445}))
    text = conform(_CLIENT, "client", _HOME, new)
    assert text == _CLIENT.replace("127.0.0.1:8443", "127.0.0.1:9443").replace(
        '# data = "data.example.org:8445"', 'data = "127.0.0.1:9445"'
    )
    assert conform(text, "client", new, new) == text


def test_a_host_that_an_operator_has_opened_stays() -> None:
    server = 'listen = "0.0.0.0:1"\nenrol_listen = "hub:2"\n# watch_listen = "127.0.0.1:3"\n'
    text = conform(server, "server", _HOME, _HOME)
    assert text == 'listen = "0.0.0.0:8443"\nenrol_listen = "hub:8444"\nwatch_listen = "127.0.0.1:9464"\n'


def test_a_line_that_is_gone_is_named() -> None:
    with pytest.raises(BadInput, match=r"enrol_listen in server\.toml") as caught:
        conform('listen = "h:1"\n[limits]\nenrol_listen = "h:2"\n', "server", _HOME, _HOME)
    assert caught.value.code == "up.settings"


def test_the_apps_port_and_addresses_follow() -> None:
    text = 'data = "127.0.0.1:1"\nserving = ["http://127.0.0.1:2", "http://other:5"]\nport = 3\n'
    assert conform(text, "app", _HOME, _HOME) == (
        'data = "127.0.0.1:8445"\nserving = ["http://127.0.0.1:8080", "http://other:5"]\nport = 8501\n'
    )


def test_paths_follow_a_home_that_moved_and_others_that_begin_alike_do_not() -> None:
    text = (
        'listen = "h:1"\nwatch_listen = "h:2"\n'
        'stores = ["file:///srv/one%20home/datasets", "file:///srv/one%20homes/x", "file:///a/srv/one%20home/x"]\n'
        'trust = "/srv/one home/trust.json"\n'
    )
    moved = conform(text, "data", _HOME, UpSettings(folder="/neü"))
    assert '"file:///ne%C3%BC/datasets", "file:///srv/one%20homes/x", "file:///a/srv/one%20home/x"' in moved
    assert 'trust = "/neü/trust.json"' in moved


@pytest.mark.parametrize(
    ("text", "code"),
    [("x=1", "up.port"), ("server", "up.port"), ("server=0", "value.invalid"), ("server=70000", "value.invalid"),
     ("server=-1", "up.port"), ("server=²", "up.port"), ("server=8445", "up.port_twice")],
)  # fmt: skip
def test_what_is_no_port_of_a_service_is_refused(text: str, code: str) -> None:
    with pytest.raises(BadInput) as caught:
        changed(Ports(), said([text]))
    assert caught.value.code == code


def test_each_service_gets_a_port_of_its_own_where_all_preferred_are_taken() -> None:
    def choose(preferred: int, taken: object) -> int:
        assert isinstance(taken, tuple)
        return 40_000 + len(taken)

    ports = chosen(choose)
    assert (ports.server, ports.serving_health) == (40_000, 40_007)


def test_an_unknown_key_and_a_port_that_stands_twice_are_errors(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text('folder = "/x"\nfolders = 1\n')
    with pytest.raises(BadInput, match="folders"):
        read_up(tmp_path)
    (tmp_path / FILE).write_text('folder = "/x"\n[ports]\nserver = 8445\n')
    with pytest.raises(BadInput, match="8445: server, data"):
        read_up(tmp_path)
