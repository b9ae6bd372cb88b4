"""A task that is installed for real processes: an interpreter that sees all that this one does, and a package more."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

__all__ = ["install_task", "see_too"]


def install_task(folder: Path, name: str, files: dict[str, str]) -> Path:
    """Put a package with an entry point of its name below `folder`; an interpreter there that finds it, by itself."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site, bin_folder = folder / "lib" / version / "site-packages", folder / "bin"
    package, about = site / name, site / f"{name}-1.dist-info"
    for each in (package, about, bin_folder):
        each.mkdir(parents=True)
    for path, text in files.items():
        (package / path).write_text(text)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    (about / "entry_points.txt").write_text(f"[aimass.tasks]\n{name} = {name}:task\n")
    real = Path(sys.executable).resolve()
    (folder / "pyvenv.cfg").write_text(f"home = {real.parent}\ninclude-system-site-packages = false\n")
    (site / "all.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    (bin_folder / "python").symlink_to(real)
    return bin_folder / "python"


def see_too(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process find what was installed there."""
    monkeypatch.syspath_prepend(str(next((folder / "lib").glob("python*")) / "site-packages"))
