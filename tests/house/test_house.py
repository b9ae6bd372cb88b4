"""Rules of the house that no linter knows."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PORTIONS = ("server", "client", "proto", "privacy", "explain")


def test_aimass_stays_a_namespace_of_five_typed_portions() -> None:
    for portion in PORTIONS:
        assert not (ROOT / portion / "aimass" / "__init__.py").exists()
        assert (ROOT / portion / "aimass" / portion / "py.typed").is_file()


def test_nobody_imports_pickle() -> None:
    for portion in PORTIONS:
        for path in (ROOT / portion).rglob("*.py"):
            words = path.read_text().split()
            assert "pickle" not in words, path
            assert "torch.load" not in path.read_text(), path


@pytest.mark.parametrize("script", ["check", "test", "demo", "bench", "attack", "audit", "gen_proto"])
def test_scripts_can_be_run(script: str) -> None:
    assert (ROOT / "scripts" / script).stat().st_mode & 0o111


@pytest.mark.alone
def test_help_is_quick_and_loads_nothing_heavy() -> None:
    program = "import sys; from aimass.proto.commands import main\ntry: main(['--help'])\nexcept SystemExit: pass\nprint(sorted({'torch','grpc','sqlalchemy','pyarrow','numpy'} & set(sys.modules)))"
    best = 9.0
    for _ in range(3):
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        best = min(best, time.perf_counter() - started)
    assert done.stdout.strip().endswith("[]")
    assert best < 0.3


def test_the_import_contract_fails_when_it_is_broken(tmp_path: Path) -> None:
    contract = (ROOT / "pyproject.toml").read_text()
    config = tmp_path / "contract.toml"
    # proto imports nothing of ours; asked the other way round the same tool must object.
    config.write_text(
        '[tool.importlinter]\nroot_packages = ["aimass.proto", "aimass.privacy"]\n[[tool.importlinter.contracts]]\n'
        'name = "broken"\ntype = "forbidden"\nsource_modules = ["aimass.privacy"]\nforbidden_modules = ["aimass.proto"]\n'
    )
    lint = Path(sys.executable).with_name("lint-imports")
    assert "aimass.server.simulate" in contract
    assert subprocess.run([lint], cwd=ROOT, capture_output=True, check=False).returncode == 0
    assert subprocess.run([lint, "--config", config], cwd=ROOT, capture_output=True, check=False).returncode == 1
