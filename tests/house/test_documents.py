"""What readers are told: blocks that close, links that lead somewhere, commands and options that there are."""

from __future__ import annotations

import argparse
import importlib
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from aimass.proto.commands import _TABLE

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
LINK = re.compile(r"\]\(([^()\s]+)\)")
SPAN = re.compile(r"`([^`]+)`")
COMMAND = re.compile(r"(?:^|[\s;&|(])aimass +([a-z][^;&|>#()]*)")
VERB = re.compile(r"[a-z][a-z-]*\Z")

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def outside(page: Path) -> tuple[str, list[str]]:
    """A page's own text, and the texts of its blocks of code."""
    own: list[str] = []
    blocks: list[str] = []
    open_block: list[str] | None = None
    for number, line in enumerate(page.read_text("utf-8").splitlines(), 1):
        mark = re.match(r" *```(.*)", line)
        if mark is None:
            (own if open_block is None else open_block).append(line)
        elif open_block is None:
            open_block = []
        else:
            assert not mark[1], f"{page.name}:{number}: a block begins within another"
            blocks.append("\n".join(open_block))
            open_block = None
    assert open_block is None, f"{page.name}: its last block of code never ends"
    return "\n".join(own), blocks


@cache
def anchors(page: Path) -> frozenset[str]:
    """What `page.md#...` may name: its headings as GitHub writes them."""
    headings = re.findall(r"^#+ +(.+)$", outside(page)[0], re.MULTILINE)
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)


@cache
def parser_of(command: str) -> argparse.ArgumentParser:
    module = importlib.import_module(_TABLE[command][0])
    parser = argparse.ArgumentParser(command)
    module.add_arguments(parser)
    return parser


def verbs_of(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    found: dict[str, argparse.ArgumentParser] = {}
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            found |= action.choices
    return found


def fault_of(said: str) -> str:
    """What no `aimass` would take of `said`, its arguments; empty where nothing is wrong."""
    first, *words = said.split()
    if first not in _TABLE:
        return first
    parser = parser_of(first)
    words = getattr(importlib.import_module(_TABLE[first][0]), "with_verb", list)(words)
    options = set(parser._option_string_actions)
    while (verbs := verbs_of(parser)) and words and VERB.match(words[0]):
        if words[0] not in verbs:
            return words[0]
        parser = verbs[words.pop(0)]
        options |= set(parser._option_string_actions)
    if verbs:  # whatever verb it will be
        options |= {option for each in verbs.values() for option in each._option_string_actions}
    told = (re.match(r"\[?(--[a-z][a-z-]*)", word) for word in words)
    return next((each[1] for each in told if each and each[1] not in options), "")


def commands_of(page: Path) -> Iterator[str]:
    own, blocks = outside(page)
    texts = [re.sub(r"\s+", " ", span) for span in SPAN.findall(own) if span.startswith("aimass ")]
    texts += [line for block in blocks for line in re.sub(r" *\\\n *", " ", block).splitlines()]
    for text in texts:
        for said in COMMAND.finditer(text):
            yield said[1].strip()


@each_page
def test_links_lead_to_a_file_and_a_heading(page: Path) -> None:
    for target in LINK.findall(outside(page)[0]):
        name, _, anchor = target.partition("#")
        if re.match(r"[a-z]+:", name):
            continue
        there = (page.parent / name).resolve() if name else page
        assert there.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(there), f"{page.name}: {target}"


@each_page
def test_commands_and_their_options_are_there(page: Path) -> None:
    wrong = {said: fault for said in commands_of(page) if (fault := fault_of(said))}
    assert not wrong


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("client doctor --dir north", "doctor"),
        ("model export last --out m --as sam", "--out"),
        ("models list", "models"),
        ("run show last --as sam", ""),
    ],
)
def test_what_is_not_there_is_found(said: str, fault: str) -> None:
    assert fault_of(said) == fault
