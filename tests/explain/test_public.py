"""What users import, and what they type: the names stand, and the guide's lines run as they are."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import aimass.explain

GUIDE = Path(__file__).parents[2] / "docs" / "explain.md"


def test_all_public_names_are_there() -> None:
    for name in aimass.explain.__all__:
        assert getattr(aimass.explain, name) is not None
    with pytest.raises(AttributeError, match="no attribute"):
        _ = aimass.explain.nothing  # type: ignore[attr-defined,unused-ignore]


def test_the_package_loads_nothing_before_it_is_asked_for() -> None:
    code = "import sys, aimass.explain; print({'numpy', 'torch', 'altair', 'msgspec'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_the_guides_ten_lines_make_a_picture(tmp_path: Path) -> None:
    lines = re.findall(r"```python\n(.*?)```", GUIDE.read_text(), re.DOTALL)[0]
    assert len([line for line in lines.splitlines() if line]) <= 10
    subprocess.run([sys.executable, "-W", "error::FutureWarning", "-c", lines], cwd=tmp_path, check=True)
    assert (tmp_path / "gap.png").read_bytes()[:4] == b"\x89PNG"


def test_every_option_that_the_guide_names_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    from aimass.proto.commands import main

    def told(*verbs: str) -> str:
        with pytest.raises(SystemExit):
            main(["explain", *verbs, "--help"])
        return capsys.readouterr().out

    def below(*verbs: str) -> list[str]:
        return re.findall(r"^    ([a-z]+)(?: |$)", told(*verbs).partition("positional")[2], re.MULTILINE)

    known = {option for verb in below() for option in re.findall(r"--[a-z][a-z-]*", told(verb))}
    known |= {option for one in below("federated") for option in re.findall(r"--[a-z][a-z-]*", told("federated", one))}
    assert {"report", "lpi", "gap", "prim", "segviz", "run", "federated"} <= set(below())
    assert set(re.findall(r"--[a-z][a-z-]*", GUIDE.read_text())) <= known | {"--help"}
