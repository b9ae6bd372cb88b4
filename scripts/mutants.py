"""Are the checks of secure aggregation held by tests? Take each away, one at a time, and see which test fails.

`python -m scripts.mutants [--markdown FILE] [--only TEXT]` prints a line for each check; 1 if any can go unnoticed.
With `--lab` some are taken away from the endpoints of the attack lab: the row that needs the check must not be refused.
"""

from __future__ import annotations

import argparse
import ast
import copy
import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = Path("privacy/aimass/privacy/secagg")
MODULES = (
    "admission", "attempt", "client", "client_state", "codec", "context", "field", "messages", "packing", "parameters",
    "quantise", "server", "unmasking",
)  # fmt: skip
TESTS = (
    "admission",
    "attacks_start",
    "attacks_sums",
    "codecs",
    "machines",
    "vectors",
    "arithmetic",
    "parameters",
    "fuzz",
)

EQUIVALENT = {
    "attempt.exchange: len(public) != KEY_BYTES (alone)": "same outcome: the library refuses another length",
    "messages.RoundStart.decode: len(data) <= SIGNATURE_BYTES": "same outcome: the context's decoder refuses nothing",
    "messages.ShareKeys.decode: reader.end()": "same outcome: the length was compared before",
    "quantise.to_limbs: value < 0 (alone)": "same outcome: a negative number shifted is not zero",
}
"""What may go without a test failing, and why."""


LAB = {
    "attempt.check_ads: not verify(key, Name.ADVERTISE, context.ctx + ad.body, ad.signature)": 1,
    "attempt.check_ads: public in seen": 11,
    "client._roster: state.ad not in message.ads": 12,
    "client._roster: shared.check_parameters(context, message)": 13,
    "client._delivered: len(sharers) < attempt.least": 23,
    "server.check_input: header.length != wanted": 24,
    "server.check_input: header.sharers_digest != attempt.set_digest(Name.SHARERS, state.sharers)": 27,
    "client._check_proofs: not shared.verify(state.member.identities[proof.id], Name.INPUT, body, proof.signature)": 30,
    "client._take: kind is Kind.SURVIVORS and state.record.signed": 32,
    "client._quorum: len(signers) < attempt.roster.T": 33,
    "server._check_shares: len(set(dealers)) != len(dealers)": 35,
    "unmasking.rebuild: attempt.self_commit(member, seed) != keys[member].self_commit": 39,
    "admission._check_expected: context.model_digest != expected.model_digest": 40,
    "admission._check_expected: len(context.ids) * expected.largest > (1 << context.bits - 1) - 1": 44,
}
"""Which row of the attack lab goes through without which check."""


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A module's source without one check."""

    name: str
    module: str
    source: str


def refuses(node: ast.If) -> bool:
    """Whether a condition ends in a refusal."""
    last = node.body[-1]
    return isinstance(last, ast.Raise) or (
        isinstance(last, ast.Return) and isinstance(last.value, ast.Constant) and last.value.value is False
    )


def mutants(module: str) -> Iterator[Mutant]:
    """Each refusal's condition as False, or without one of its alternatives; each failed verification as a success."""
    tree = ast.parse((ROOT / PACKAGE / f"{module}.py").read_text())
    for path, node in walk(tree):
        where = ".".join((module, *path))
        if isinstance(node, ast.If) and refuses(node):
            text = shorten(ast.unparse(node.test))
            yield Mutant(f"{where}: {text}", module, replaced(tree, node.test, ast.Constant(value=False)))
            if isinstance(node.test, ast.BoolOp) and isinstance(node.test.op, ast.Or):
                for place, part in enumerate(node.test.values):
                    rest = node.test.values[:place] + node.test.values[place + 1 :]
                    left = rest[0] if len(rest) == 1 else ast.BoolOp(op=ast.Or(), values=rest)
                    name = f"{where}: {shorten(ast.unparse(part))} (alone)"
                    yield Mutant(name, module, replaced(tree, node.test, left))
        elif isinstance(node, ast.ExceptHandler) and isinstance(node.body[-1], ast.Return):
            passes = ast.Return(ast.Constant(value=True))
            yield Mutant(f"{where}: a failed verification", module, replaced(tree, node.body[-1], passes))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and re.match(
            r"(shared\.|reader\.)?_?(check|end|in_order)", ast.unparse(node.value)
        ):  # fmt: skip
            name = f"{where}: {shorten(ast.unparse(node.value))}"
            yield Mutant(name, module, replaced(tree, node, ast.Pass()))


def walk(tree: ast.AST, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], ast.AST]]:
    """Every node with the names of the functions and classes around it."""
    for node in ast.iter_child_nodes(tree):
        inner = path
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            inner = (*path, node.name)
        yield inner, node
        yield from walk(node, inner)


def replaced(tree: ast.Module, old: ast.AST, new: ast.AST) -> str:
    """The source with one node in another's place."""
    found = {id(node): place for place, node in enumerate(ast.walk(tree))}
    twin = copy.deepcopy(tree)
    target = list(ast.walk(twin))[found[id(old)]]
    for parent in ast.walk(twin):
        for field, value in ast.iter_fields(parent):
            if value is target:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is target for item in value):
                setattr(parent, field, [new if item is target else item for item in value])
    return ast.unparse(ast.fix_missing_locations(twin))


def shorten(text: str) -> str:
    return text if len(text) <= 90 else text[:87] + "..."


def run_with(mutant: Mutant, folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """A module of Python with the mutant in the package's place."""
    target = folder / "aimass/privacy/secagg" / f"{mutant.module}.py"
    before = target.read_text()
    target.write_text(mutant.source)
    path = {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        return subprocess.run(
            [sys.executable, "-m", *command],
            check=False, cwd=ROOT, env={**os.environ, **path}, capture_output=True, text=True, timeout=600,
        )  # fmt: skip
    finally:
        target.write_text(before)


def caught_in_lab(mutant: Mutant, folder: Path) -> str | None:
    """How the row that needs the check fails; None where it is refused all the same, or says nothing."""
    done = run_with(mutant, folder, ["tests.attack.main", str(LAB[mutant.name]), "--json"])
    rows = json.loads(done.stdout)["rows"] if done.stdout else []
    return f"row {rows[0]['row']}: {rows[0]['escaped']}" if rows and rows[0]["escaped"] else None


def caught_by(mutant: Mutant, folder: Path) -> str | None:
    """The first test that fails with the mutant in the package's place; None where all pass."""
    pytest = ["pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
    done = run_with(mutant, folder, [*pytest, *(f"tests/privacy/secagg/test_{name}.py" for name in TESTS)])
    if done.returncode == 0:
        return None
    failed = re.search(r"^(?:FAILED|ERROR) \S*?/test_(\w+)\.py(?:::(\w+))?", done.stdout, re.MULTILINE)
    if failed is None:
        return "the tests do not start"
    return f"{failed[1]}: {(failed[2] or 'does not load').removeprefix('test_')}"


def main() -> int:
    """Run every mutant."""
    parser = argparse.ArgumentParser(description="take each check away and see which test fails")
    parser.add_argument("--markdown", type=Path)
    parser.add_argument("--only", default="")
    parser.add_argument("--lab", action="store_true", help="some of them, at the endpoints of the attack lab")
    args = parser.parse_args()
    rows, missed = [], 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "privacy"
        shutil.copytree(ROOT / "privacy", folder, ignore=shutil.ignore_patterns("__pycache__"))
        if not args.lab and caught_by(Mutant("", "labels", (ROOT / PACKAGE / "labels.py").read_text()), folder):
            parser.error("a test fails before any check is taken away")
        for module in MODULES:
            for mutant in mutants(module):
                if args.only not in mutant.name or (args.lab and mutant.name not in LAB):
                    continue
                if args.lab:
                    found = caught_in_lab(mutant, folder)
                else:
                    found = caught_by(mutant, folder) or EQUIVALENT.get(mutant.name)
                missed += found is None
                rows.append((mutant.name, found or "NOTHING"))
                sys.stdout.write(f"{mutant.name} | {rows[-1][1]}\n")
                sys.stdout.flush()
    sys.stdout.write(f"{len(rows)} checks, {missed} that no test holds\n")
    if args.markdown:
        lines = ["| check that was taken away | what failed |", "| --- | --- |"]
        lines += [f"| `{check.replace('|', '∣')}` | {found.replace('_', ' ')} |" for check, found in rows]
        args.markdown.write_text("\n".join(lines) + "\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
