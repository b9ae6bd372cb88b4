"""The first start, killed anywhere: made again or gone on with, and never over what is somebody else's."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from aimass.proto.errors import BadInput, InternalError, Unavailable
from aimass.proto.up.founding import adopt, check_folder, found, is_founded, run_commands
from aimass.proto.up.settings import FILE, Ports, changed


class _Cut(Exception):
    """The power goes."""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home, made once."""
    folder = tmp_path_factory.mktemp("mäde") / "one %41 home"
    folder.mkdir()
    found(folder, Ports, run_commands)
    return folder


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_a_home_is_whole_private_and_speaks_of_itself(made: Path) -> None:
    assert is_founded(made)
    assert _names(made) == {
        "root", "server", "data", "operator", "scientist", "registry", "datasets", "studies", "bundle.json",
        "trust.json", "serve.toml", "app.toml", "first.toml", FILE,
    }  # fmt: skip
    server = (made / "server" / "server.toml").read_text()
    assert f'stores = ["{made.as_uri()}/datasets"]' in server
    assert f'url = "{made.as_uri()}/registry"' in server
    assert not list(made.glob("**/*.token"))
    (rows,) = tomllib.loads((made / "app.toml").read_text())["rows"]
    assert rows == {"name": "heart", "files": ["heart"], "task": "heart", "held_out": False}
    for name in ("root", "server/keys", "operator/keys"):
        for path in (made / name).iterdir():
            if path.suffix == ".key":
                assert path.stat().st_mode & 0o077 == 0, path


def test_a_first_start_that_was_killed_at_any_move_goes_on_with_the_keys_that_it_made(
    tmp_path: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = len(_names(made)) + 1
    for most in range(moves):
        folder = tmp_path / str(most)
        folder.mkdir()
        left = [most]
        rename = Path.rename

        def cut(path: Path, target: Path, left: list[int] = left, rename=rename) -> Path:  # type: ignore[no-untyped-def]
            if left[0] == 0:
                raise _Cut
            left[0] -= 1
            return rename(path, target)  # type: ignore[no-any-return]

        with monkeypatch.context() as patched:
            patched.setattr(Path, "rename", cut)
            try:
                found(folder, Ports, _copies(made))
            except _Cut:
                assert not is_founded(folder)
                check_folder(folder)
        found(folder, Ports, _never) if not is_founded(folder) else None
        assert _names(folder) - {".founding"} == _names(made)


def _copies(made: Path):  # type: ignore[no-untyped-def]
    """What the commands make, without the seconds that they take."""

    def run(_: Sequence[Sequence[str]], folder: Path) -> None:
        for name in ("root", "server", "data", "operator", "scientist"):
            (folder / name).mkdir()
            (folder / f"{name}.token").touch()
        (folder / "root.token").unlink()
        for name in ("bundle.json", "trust.json"):
            (folder / name).touch()
        for name in ("server/server.toml", "data/data.toml", "data/client.toml", "operator/client.toml",
                     "scientist/client.toml"):  # fmt: skip
            (folder / name).write_text((made / name).read_text())
        server = folder / "server" / "server.toml"
        text = server.read_text().replace("../trust.json", "trust.json")
        for url in (f'["{made.as_uri()}/datasets"]', f'"{made.as_uri()}/registry"'):
            text = text.replace(url, "[]" if url.startswith("[") else '""')
        server.write_text(text)

    return run


def _never(_: Sequence[Sequence[str]], __: Path) -> None:
    raise AssertionError("the keys were there already")


def test_one_that_was_killed_amid_its_commands_is_made_anew(tmp_path: Path, made: Path) -> None:
    def killed(_: Sequence[Sequence[str]], folder: Path) -> None:
        (folder / "root").mkdir()
        raise Unavailable("killed")

    with pytest.raises(Unavailable):
        found(tmp_path, Ports, killed)
    check_folder(tmp_path)
    found(tmp_path, Ports, _copies(made))
    assert is_founded(tmp_path)


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(BadInput, match=r"thesis\.tex"):
        check_folder(tmp_path)
    with pytest.raises(BadInput, match="a home is a folder"):
        check_folder(tmp_path / "thesis.tex")
    check_folder(tmp_path / "new")
    for name in ('a"b', "a\\b", "a\nb"):
        with pytest.raises(BadInput, match="quotation mark"):
            check_folder(tmp_path / name)


def test_a_command_that_fails_is_told_by_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        run_commands([["pki", "init", "root"], ["pki", "token", "Bad Name", "--root", "root", "--out", "t"]], tmp_path)
    assert caught.value.code == "pki.name"
    assert (tmp_path / "root" / "root.pem").is_file()


def test_variables_of_the_shell_lead_no_command_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMASS_CLIENT_NAME", "mallory")
    monkeypatch.setenv("AIMASS_TRUST", str(tmp_path / "elsewhere.json"))
    run_commands(
        [
            ["pki", "init", "root"],
            ["pki", "token", "a", "--root", "root", "--out", "a.token"],
            ["client", "init", "a", "--name", "a", "--server", "h:1", "--enrol", "h:2"],
            ["client", "enroll", "--dir", "a", "--token", "a.token", "--offline"],
        ],
        tmp_path,
    )
    assert (tmp_path / "a" / "a.request").is_file()
    assert os.environ["AIMASS_CLIENT_NAME"] == "mallory"


def test_settings_that_somebody_removed_come_back_and_edits_stay(made: Path) -> None:
    (made / "app.toml").unlink()
    serve = made / "serve.toml"
    serve.write_text(f"{serve.read_text()}infer_s = 5.0\n")
    home = adopt(made, lambda ports: changed(ports, {"app": 9501, "serving": 9080}))
    assert home.ports.app == 9501
    assert "port = 9501" in (made / "app.toml").read_text()
    assert f'home = "{made}/scientist"' in (made / "app.toml").read_text()
    assert 'http = "127.0.0.1:9080"' in serve.read_text()
    assert "infer_s = 5.0" in serve.read_text()
    assert adopt(made, lambda ports: ports) == home


def test_a_template_that_changed_is_noticed(tmp_path: Path, made: Path) -> None:
    def run(commands: Sequence[Sequence[str]], folder: Path) -> None:
        _copies(made)(commands, folder)
        server = folder / "server" / "server.toml"
        server.write_text(server.read_text().replace("\nstores", "\nsources"))

    with pytest.raises(InternalError, match="stores"):
        found(tmp_path, Ports, run)
