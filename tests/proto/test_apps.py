"""Flower apps as files: what is read, what is hashed, what is installed."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from aimass.proto.apps import App, find, install, installed, override, read_app, remove, run_config
from aimass.proto.errors import AimassError, BadInput, IntegrityError, NotFound

PROJECT = """
[project]
name = "Tiny_App"
version = "1.2.0"

[tool.flwr.app]
publisher = "someone"

[tool.flwr.app.components]
serverapp = "tiny.server_app:app"
clientapp = "tiny.client_app:app"

[tool.flwr.app.config]
num-server-rounds = 3
optimiser.lr = 0.1
optimiser.name = "sgd"
verbose = false
"""


def write(folder: Path, files: dict[str, str] | None = None, project: str = PROJECT) -> Path:
    """An app's folder."""
    written = {
        "pyproject.toml": project,
        "tiny/__init__.py": "",
        "tiny/client_app.py": "app = None\n",
        "tiny/server_app.py": "app = None\n",
        "README.md": "read me\n",
        **(files or {}),
    }
    for name, text in written.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_an_app_is_what_its_project_file_says(tmp_path: Path) -> None:
    app = read_app(write(tmp_path))
    assert (app.name, app.version, app.folder) == ("tiny-app", "1.2.0", tmp_path.resolve())
    assert (app.client_app, app.server_app) == ("tiny.client_app:app", "tiny.server_app:app")
    assert app.config == {"num-server-rounds": 3, "optimiser.lr": 0.1, "optimiser.name": "sgd", "verbose": False}


@pytest.mark.parametrize("name", ["tiny/client_app.py", "README.md", "pyproject.toml"])
def test_every_file_of_the_bundle_is_in_the_digest(tmp_path: Path, name: str) -> None:
    before = read_app(write(tmp_path)).digest
    (tmp_path / name).write_text((tmp_path / name).read_text() + "\n# changed\n")
    assert read_app(tmp_path).digest != before


@pytest.mark.parametrize(
    "name",
    [
        "tiny/__pycache__/client_app.cpython-311.pyc",
        "tiny/__pycache__/planted.py",
        ".venv/lib/site.py",
        ".git/config.toml",
        "venv/lib/site.py",
        "build/lib.py",
        "data/rows.csv",
        "tiny/test_client.py",
        ".env.toml",
    ],
)
def test_what_flower_does_not_bundle_is_neither_hashed_nor_installed(tmp_path: Path, name: str) -> None:
    before = read_app(write(tmp_path / "app")).digest
    assert read_app(write(tmp_path / "app", {name: "x = 1\n"})).digest == before
    place = install(read_app(tmp_path / "app"), tmp_path / "home").folder
    assert not (place / name).exists()


def test_the_digest_does_not_depend_on_the_place_or_on_other_machines(tmp_path: Path) -> None:
    one, other = write(tmp_path / "one"), write(tmp_path / "other")
    os.utime(other / "README.md", (1, 1))
    assert read_app(one).digest == read_app(other).digest
    expected = "d5a68c73e1dde8e58629ee5f3698dffc4d13c49d60928362e96b6469b2c246d6"
    assert read_app(one).digest == expected


def test_moving_text_between_two_files_changes_the_digest(tmp_path: Path) -> None:
    one = write(tmp_path / "one", {"tiny/a.py": "1", "tiny/b.py": "2"})
    other = write(tmp_path / "other", {"tiny/a.py": "2", "tiny/b.py": "1"})
    assert read_app(one).digest != read_app(other).digest


def test_an_installed_app_has_the_digest_of_its_source_and_cannot_be_written(tmp_path: Path) -> None:
    source = read_app(write(tmp_path / "app"))
    app = install(source, tmp_path / "home")
    assert app == dataclasses.replace(source, folder=app.folder)
    assert installed(tmp_path / "home") == (app,)
    assert find(tmp_path / "home", "tiny-app", source.digest) == app
    modes = {path.stat().st_mode & 0o222 for path in (app.folder, *app.folder.rglob("*"))}
    assert modes == {0}


def test_installing_twice_changes_nothing_and_versions_stand_side_by_side(tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = install(read_app(write(tmp_path / "app")), home)
    assert install(read_app(tmp_path / "app"), home) == first
    (tmp_path / "app" / "tiny" / "client_app.py").write_text("app = 2\n")
    second = install(read_app(tmp_path / "app"), home)
    assert {app.digest for app in installed(home)} == {first.digest, second.digest}
    assert remove(home, "tiny-app", first.digest) == (first.digest,)
    assert installed(home) == (second,)
    assert remove(home, "tiny-app") == (second.digest,)
    assert installed(home) == ()
    with pytest.raises(NotFound, match="no such app"):
        remove(home, "tiny-app")


def test_an_installation_that_fails_leaves_nothing(tmp_path: Path) -> None:
    source = read_app(write(tmp_path / "app"))
    (tmp_path / "app" / "tiny" / "client_app.py").write_text("app = 2\n")
    with pytest.raises(IntegrityError, match="have changed"):
        install(source, tmp_path / "home")
    assert list((tmp_path / "home" / "apps" / "tiny-app").iterdir()) == []


def test_a_changed_installation_is_no_longer_found(tmp_path: Path) -> None:
    app = install(read_app(write(tmp_path / "app")), tmp_path / "home")
    path = app.folder / "tiny" / "client_app.py"
    path.chmod(0o644)
    path.write_text("app = 2\n")
    with pytest.raises(IntegrityError, match="have changed"):
        find(tmp_path / "home", app.name, app.digest)


def test_an_app_that_is_not_installed_is_told_with_the_cure(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="app install"):
        find(tmp_path, "tiny-app", "0" * 64)


@pytest.mark.parametrize("target", ["inside", "outside"])
def test_links_are_refused(tmp_path: Path, target: str) -> None:
    app = write(tmp_path / "app")
    (tmp_path / "other.py").write_text("x = 1\n")
    goal = app / "tiny" / "client_app.py" if target == "inside" else tmp_path / "other.py"
    (app / "tiny" / "linked.py").symlink_to(goal)
    with pytest.raises(BadInput, match="link"):
        read_app(app)
    (app / "tiny" / "linked.py").unlink()
    (app / "more").symlink_to(tmp_path)
    with pytest.raises(BadInput, match="link"):
        read_app(app)


def test_limits_are_told(tmp_path: Path) -> None:
    app = write(tmp_path)
    with (app / "large.json").open("wb") as file:
        file.truncate(33 << 20)
    with pytest.raises(AimassError, match="too large"):
        read_app(app)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[project]", "[projects]", "[project]"),
        ('name = "Tiny_App"', "", "no name"),
        ('name = "Tiny_App"', 'name = "Schön"', "no name"),
        ("[tool.flwr.app.components]", "[tool.flwr.app.parts]", "components"),
        ('"tiny.client_app:app"', '"tiny/client_app.py"', "clientapp"),
        ('"tiny.client_app:app"', "3", "clientapp"),
        ("verbose = false", "verbose = [1]", "verbose"),
        ("verbose = false", "verbose = nan", "verbose"),
        ("verbose = false", "verbose = 2026-01-01", "verbose"),
        ("[project]", "[project", "cannot be read"),
    ],
)
def test_a_project_file_that_is_none_is_told(tmp_path: Path, before: str, after: str, told: str) -> None:
    assert before in PROJECT
    with pytest.raises(BadInput, match="cannot be read") as caught:
        read_app(write(tmp_path, project=PROJECT.replace(before, after)))
    assert told in str(caught.value)


def test_a_folder_without_a_project_is_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"pyproject\.toml"):
        read_app(tmp_path)


def test_values_over_the_defaults_make_the_run_config(tmp_path: Path) -> None:
    app = read_app(write(tmp_path))
    assert override(app, {"optimiser.lr": 0.5})["optimiser.lr"] == 0.5
    assert run_config(app, {"rounds": 2, "config.num-server-rounds": 2})["num-server-rounds"] == 2
    assert run_config(app, {"rounds": 2}) == app.config
    with pytest.raises(BadInput, match="no such key") as caught:
        override(app, {"optimiser.rate": 0.5})
    assert "optimiser.lr" in str(caught.value)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the package that Flower matches patterns with
def test_reading_is_flowers_reading(tmp_path: Path) -> None:
    """Flower's own functions are the oracle for the flattened configuration and for the files of the bundle."""
    config = pytest.importorskip("flwr.common.config")
    build = pytest.importorskip("flwr.cli.build")
    app: App = read_app(write(tmp_path, {"conf/more.yaml": "a: 1\n", "LICENSE": "free\n", "notes.txt": "no\n"}))
    assert config.get_fused_config_from_dir(tmp_path, {"optimiser.lr": 2}) == override(app, {"optimiser.lr": 2})
    files = {path.relative_to(tmp_path).as_posix(): path for path in tmp_path.rglob("*") if path.is_file()}
    bundled = set(build.get_filtered_fab_paths(files, config.get_project_config(tmp_path))) | {"pyproject.toml"}
    place = install(app, tmp_path / "home").folder
    assert {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file()} == bundled
