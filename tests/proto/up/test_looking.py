"""What a supervisor sees of its services: health over HTTP, logs, ports, processes of a start before."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimass.proto.up.logs import last_words, open_log, trim
from aimass.proto.up.ports import HOST, choose, holder, is_free
from aimass.proto.up.probe import probe, reasons_of
from aimass.proto.up.processes import end_left, identity
from aimass.proto.up.services import champions

_FULL = b'{"ready": false, "reasons": [{"code": "store.full", "what": "the disk is\\u0007 full"}]}'


@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nok", ()),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n" + _FULL, ("the disk is\N{REPLACEMENT CHARACTER} full",)),
        (b"HTTP/1.1 503 X\r\n\r\nnot json", ("it answers with status 503",)),
        (b'HTTP/1.1 503 X\r\n\r\n{"reasons": []}', ("it answers with status 503",)),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", ("it answers with status 404",)),
        (b"SSH-2.0-OpenSSH\r\n", None),
        (b"", None),
    ],
)
def test_an_answer_says_why_a_service_is_not_ready(answer: bytes, reasons: tuple[str, ...] | None) -> None:
    assert reasons_of(answer) == reasons


@given(st.binary(max_size=200))
def test_whatever_somebody_answers_is_an_answer_or_none(answer: bytes) -> None:
    reasons_of(answer)
    reasons_of(b"HTTP/1.1 503 X\r\n\r\n" + answer)


def test_nobody_at_the_port_is_no_answer() -> None:
    assert asyncio.run(probe(choose(0, ()), "/readyz", "/healthz")) is None


def test_who_lives_and_does_not_say_whether_it_is_ready_is_no_silence() -> None:
    async def run() -> tuple[str, ...] | None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if b"/healthz" in await reader.readuntil(b"\r\n\r\n"):
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
            writer.close()  # of /readyz without a word

        async with await asyncio.start_server(answer, HOST, 0) as server:
            return await probe(server.sockets[0].getsockname()[1], "/readyz", "/healthz")

    assert asyncio.run(run()) == ("it lives, and does not say in time whether it is ready",)


def test_a_port_that_is_shared_with_others_is_not_free_and_its_holder_is_named() -> None:
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        held.bind(("0.0.0.0", 0))
        port = int(held.getsockname()[1])
        held.listen()
        assert not is_free(port)
        assert choose(port, ()) != port
        assert f"process {os.getpid()} (" in holder(port)
    assert is_free(port)
    assert holder(port) == ""
    assert choose(port, ()) == port
    assert choose(port, (port,)) != port


# ---------------------------------------------------------------- logs


def test_the_last_words_are_those_since_the_start_without_what_moves_a_cursor(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    path.write_text("of the process before\n")
    descriptor, begin = open_log(path)
    os.write(descriptor, b"one\n\n\x1b[2Jtwo\nthree\nfour\n")
    os.close(descriptor)
    assert last_words(path, begin) == "\N{REPLACEMENT CHARACTER}[2Jtwo | three | four"
    assert last_words(path, begin, 10).startswith("one | ")
    assert last_words(tmp_path / "absent.log", 0) == ""
    assert path.stat().st_mode & 0o777 in (0o600, 0o644)


def test_a_log_that_grew_is_cut_and_its_writer_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "server.log"
    descriptor, _ = open_log(path)
    os.write(descriptor, b"x" * 100 + b"\n")
    assert not trim(path, 200)
    os.write(descriptor, b"y" * 100 + b"\n")
    assert trim(path, 200)
    os.write(descriptor, b"after\n")
    os.close(descriptor)
    assert path.read_bytes() == b"after\n"
    kept = path.with_name("server.log.1")
    assert kept.stat().st_size == 202
    assert kept.stat().st_mode & 0o077 == 0
    assert last_words(path, 150) == "after", "it began where the log is no more"
    assert not trim(tmp_path / "absent.log", 1)


# ---------------------------------------------------------------- processes


def _child(code: str) -> subprocess.Popen[bytes]:
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    assert process.stdout.readline() == b"here\n"
    return process


def test_what_a_start_before_has_left_is_ended_by_force_where_it_must_be() -> None:
    meek = _child("import time; print('here', flush=True); time.sleep(1000)")
    deaf = _child("import signal, time; signal.signal(15, signal.SIG_IGN); print('here', flush=True); time.sleep(1000)")
    known = [(process.pid, identity(process.pid)) for process in (meek, deaf)]
    assert end_left(known, 2.0) == [meek.pid, deaf.pid]
    assert (meek.wait(), deaf.wait()) == (-signal.SIGTERM, -signal.SIGKILL)
    assert end_left(known, 0.2) == [], "they are gone"
    for process in (meek, deaf):
        process.communicate()


def test_another_process_of_the_same_number_is_left_alone() -> None:
    child = _child("import time; print('here', flush=True); time.sleep(1000)")
    try:
        assert end_left([(child.pid, "boot:1"), (child.pid, "")], 0.1) == []
        assert child.poll() is None
    finally:
        child.kill()
        child.communicate()


def test_one_that_is_over_has_no_identity_although_nobody_asked_how_it_ended() -> None:
    child = _child("print('here', flush=True)")
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert identity(child.pid) == ""
    child.communicate()
    assert identity(child.pid) == ""


# ---------------------------------------------------------------- the registry


def test_models_with_a_champion_are_what_is_served(tmp_path: Path) -> None:
    assert champions(tmp_path) == ()
    for key in ("heart/aliases/champion/00000001.json", "reviews/aliases/candidate/00000001.json", "stray"):
        path = tmp_path / "registry" / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "registry" / "adult" / "aliases" / "champion").mkdir(parents=True)
    assert champions(tmp_path) == ("heart",)
    assert HOST == "127.0.0.1"
