"""The audit log: whole lines, in order, whoever writes beside and whatever tore the last one."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from aimass.proto.errors import OutOfSpace
from aimass.proto.serving_views import AuditLine
from aimass.server.serving.watching.audit_log import AuditLog, read_audit, told


def _line(number: int) -> AuditLine:
    return AuditLine(at=1_000.0 + number, target="heart@champion", kind="serves", text=f"line {number}", version=number)


def test_lines_come_back_as_they_were_written(tmp_path: Path) -> None:
    log = AuditLog(tmp_path)
    for number in range(3):
        log.append([_line(number)])
    assert list(read_audit(tmp_path)) == [_line(0), _line(1), _line(2)]


def test_a_line_that_a_crash_tore_is_left_out_and_the_next_one_is_whole(tmp_path: Path) -> None:
    AuditLog(tmp_path).append([_line(0)])
    with (tmp_path / "audit.jsonl").open("ab") as file:
        file.write(b'{"at": 1001.0, "tar')
    assert list(read_audit(tmp_path)) == [_line(0)]
    AuditLog(tmp_path).append([_line(2)])
    assert list(read_audit(tmp_path)) == [_line(0), _line(2)]


def test_a_large_log_is_turned_over_and_the_oldest_lines_go(tmp_path: Path) -> None:
    log = AuditLog(tmp_path, most_bytes=1_000, kept=2)
    for number in range(60):
        log.append([_line(number)])
    found = [line.version for line in read_audit(tmp_path)]
    assert found == list(range(found[0] or 0, 60))
    assert 15 < len(found) < 40
    assert len(list(tmp_path.glob("audit*.jsonl"))) == 3


def test_processes_that_share_a_folder_do_not_mix_their_lines(tmp_path: Path) -> None:
    def write(first: int) -> None:
        log = AuditLog(tmp_path, most_bytes=2_000, kept=30)
        for number in range(first, first + 30):
            log.append([_line(number)])

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 100, 200)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(list(read_audit(tmp_path))) == 90


def test_a_folder_without_a_log_has_no_lines(tmp_path: Path) -> None:
    assert list(read_audit(tmp_path)) == []


def test_a_line_is_told_with_its_time_and_what_it_is_about() -> None:
    assert told(_line(5)) == "1970-01-01 00:16:45Z  heart@champion  line 5"


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    log = AuditLog(tmp_path)
    monkeypatch.setattr("aimass.proto.durable.write_all", full)
    with pytest.raises(OutOfSpace):
        log.append([_line(0)])
