"""The owner's socket: for who can read the token, and for nobody else on the machine."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from aimass.client.owner_socket import SOCKET, TOKEN, OwnerSocket
from aimass.proto.errors import NotFound


async def _command(request: dict[str, str]) -> dict[str, Any]:
    if request["command"] == "status":
        return {"connected": True}
    raise NotFound("no such command", code="control.command", value=request["command"])


async def _asked(folder: Path, line: bytes) -> dict[str, Any]:
    reader, writer = await asyncio.open_unix_connection(str(folder / SOCKET))
    writer.write(line + b"\n")
    answer = await reader.readline()
    writer.close()
    reply: dict[str, Any] = json.loads(answer)
    return reply


def _over_the_socket(folder: Path, line: bytes) -> dict[str, Any]:
    async def scenario() -> dict[str, Any]:
        (folder / "state").mkdir(exist_ok=True)
        owner = OwnerSocket(folder, _command)
        await owner.listen()
        try:
            token = (folder / TOKEN).read_text()
            assert stat.S_IMODE((folder / TOKEN).stat().st_mode) == 0o600
            assert stat.S_IMODE((folder / SOCKET).stat().st_mode) == 0o600
            return await _asked(folder, line.replace(b"TOKEN", token.encode()))
        finally:
            owner.close()

    return asyncio.run(scenario())


def test_who_holds_the_token_is_answered(tmp_path: Path) -> None:
    assert _over_the_socket(tmp_path, b'{"command":"status","token":"TOKEN"}') == {"connected": True}
    assert not (tmp_path / SOCKET).exists()


def test_what_is_refused_is_told_by_name(tmp_path: Path) -> None:
    reply = _over_the_socket(tmp_path, b'{"command":"dance","token":"TOKEN"}')
    assert reply["error"]["code"] == "control.command"


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b'{"command":"status","token":"guess"}', "control.token"),
        (b'{"command":"status","token":"\xc3\xa9"}', "control.request"),
        (b'{"command":"status"}', "control.request"),
        (b"", "control.request"),
        (b"[" * 9_000, "control.request"),
        (b"x" * 100_000, "control.request"),
        (b"\xff\xfe", "control.request"),
        (b'"TOKEN"', "control.request"),
    ],
)
def test_nobody_else_is_answered_and_the_daemon_lives(tmp_path: Path, line: bytes, code: str) -> None:
    assert _over_the_socket(tmp_path, line)["error"]["code"] == code


def test_sockets_of_several_folders_leave_the_mask_of_new_files_as_it_was(tmp_path: Path) -> None:
    async def scenario() -> None:
        owners = []
        for number in range(5):
            (tmp_path / str(number) / "state").mkdir(parents=True)
            owners.append(OwnerSocket(tmp_path / str(number), _command))
        await asyncio.gather(*(owner.listen() for owner in owners))
        for owner in owners:
            owner.close()

    before = os.umask(0o022)
    try:
        asyncio.run(scenario())
        assert os.umask(0o022) == 0o022
    finally:
        os.umask(before)
