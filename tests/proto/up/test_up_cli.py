"""`aimass up` as it is mistyped, and on folders where it cannot work: told before anything is made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main


@pytest.mark.parametrize(
    ("command", "exit_code", "code"),
    [
        ("--only nonsense", 2, "up.service"),
        ("--only server,", 2, "up.service"),
        ("--port server", 2, "up.port"),
        ("--port server=99999", 2, "value.invalid"),
        ("--port sever=9443", 2, "up.port"),
        ("--home thesis", 2, "up.home"),
        ("--home thesis/thesis.tex", 2, "up.home"),
        ("--status", 4, "up.absent"),
        ("--retry", 4, "up.absent"),
        ("--status --home thesis", 4, "up.absent"),
    ],
)
def test_a_mistake_is_told_by_name_and_makes_nothing(
    command: str, exit_code: int, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").touch()
    assert main(["up", *command.split(), "--json"]) == exit_code
    error = json.loads(capsys.readouterr().err)["error"]
    assert error["code"] == code
    assert error["cure"]
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["thesis", "thesis.tex"]


def test_status_and_retry_exclude_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["up", "--status", "--retry"])
    assert "not allowed" in capsys.readouterr().err


def test_help_teaches_and_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from aimass.proto.commands import main\n"
        "try: main(['up', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'torch', 'grpc', 'numpy', 'pyarrow', 'obstore', 'cryptography'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"
    for words in ("aimass up --status", "Ctrl-C", "--port NAME=PORT"):
        assert words in done.stdout
