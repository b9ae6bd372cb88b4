"""The ledger on the disk: kills at every point, races, older, shortened, edited and read-only files, renamed data."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aimass.privacy.dp.ledger_file import open_ledger, row_key
from aimass.privacy.dp.ledger_lines import Accepted, EntryState, Head, Line, Opened, StudyOpened
from aimass.privacy.dp.ledger_reading import export_ledger, lost_since, read_lines, verify_export
from aimass.privacy.dp.ledger_state import replay
from aimass.privacy.dp.sketch import row_bytes, sketch_rows
from aimass.privacy.signing import public_key
from aimass.proto.durable import UNINTERRUPTED, Durability
from aimass.proto.errors import AimassError, BadInput, Conflict, IntegrityError, OutOfSpace, Refused, Unauthenticated
from aimass.proto.secret import Secret
from aimass.proto.values import canonical_json, decode_canonical_json, decode_json
from tests.support.ledgers import BUDGET, RESULT, RUN, Clock, counted, open_states, reserve, steps, story

CLOCK = Clock()


def held(root: Path, data_set: str = "south", durability: Durability = UNINTERRUPTED, **more: object):  # type: ignore[no-untyped-def]
    return open_ledger(root, data_set, durability, CLOCK, **more)  # type: ignore[arg-type]


def lines_of(root: Path, data_set: str = "south") -> Path:
    return root / data_set / "ledger.jsonl"


def begun(root: Path, data_set: str = "south") -> None:
    """Seven steps committed, ten spent by a restart."""
    with held(root, data_set) as file:
        file.set_budgets([BUDGET])
        first = reserve(file, 10)
        file.start(first)
        file.commit(first, [steps(7)], RESULT)
        reserve(file, 10)
    with held(root, data_set) as file:
        assert counted(file.state) == 17


def refusal(root: Path, **more: object) -> AimassError:
    with pytest.raises(AimassError) as told, held(root, "south", UNINTERRUPTED, **more):
        pass
    return told.value


def test_a_ledger_is_the_same_after_it_was_closed_and_opened(tmp_path: Path) -> None:
    begun(tmp_path)
    with held(tmp_path) as file:
        before = file.state
        assert open_states(before) == [EntryState.COMMITTED, EntryState.SPENT]
    assert read_lines(lines_of(tmp_path)).ledger == before
    with held(tmp_path) as file:
        assert file.state == before


def test_a_clock_set_back_changes_nothing(tmp_path: Path) -> None:
    begun(tmp_path)
    with open_ledger(tmp_path, "south", UNINTERRUPTED, Clock(-5.0)) as file:
        file.start(reserve(file, 5))
        assert counted(file.state) == 22


def test_kill_9_at_every_point_never_counts_less_than_what_was_allowed(tmp_path: Path) -> None:
    """Real processes. What had returned before each death is the truth that the ledger must cover."""
    child = [sys.executable, "-m", "tests.support.ledgers", "kill", str(tmp_path)]
    ended = json.loads(subprocess.run(child, capture_output=True, check=True, timeout=240).stdout)
    assert ended["status"] == 0
    assert ended["points"] >= 60
    for last in range(1, ended["points"] + 1):
        told = [json.loads(line) for line in (tmp_path / str(last) / "told.jsonl").read_text().splitlines()]
        with held(tmp_path / str(last) / "ledgers") as file:
            least = int(told[-1][1]) if told else 0
            assert counted(file.state) >= least, (last, told)
            assert not any(entry.open for entry in file.state.entries.values())


def test_the_story_counts_to_the_step(tmp_path: Path) -> None:
    said: list[int] = []
    story(tmp_path, UNINTERRUPTED, lambda _, steps_: said.append(steps_))
    assert said[-2:] == [82, 82]


def test_two_processes_on_one_ledger_the_second_is_told_and_ends(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-m", "tests.support.ledgers", "hold", str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Conflict, match="another process with this ledger"), held(tmp_path):
            pass
        assert read_lines(lines_of(tmp_path)).ledger.data_set == "south"
        holder.stdin.close()
    with held(tmp_path):
        pass


def test_processes_that_race_lose_no_debit(tmp_path: Path) -> None:
    with held(tmp_path) as file:
        file.set_budgets([BUDGET])
    child = [sys.executable, "-m", "tests.support.ledgers", "race", str(tmp_path)]
    ended = json.loads(subprocess.run(child, capture_output=True, check=True, timeout=120).stdout)
    assert ended == {"failed": [], "counted": 4 * 5 * 2, "states": {"committed": 20}}


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_torn_last_line_is_cut_off_and_what_it_would_have_closed_is_spent(
    tmp_path: Path, data: st.DataObject
) -> None:
    root = tmp_path / str(len(list(tmp_path.iterdir())))
    begun(root)
    with held(root) as file:
        entry = reserve(file, 10)
        noted = (root / "south" / "head.json").read_bytes()
        closing = data.draw(st.sampled_from(("start", "cancel")))
        getattr(file, closing)(entry)
    path = lines_of(root)
    whole = path.read_bytes()
    last = len(whole) - whole[:-1].rfind(b"\n") - 1
    path.write_bytes(whole[: -data.draw(st.integers(1, last))])
    (root / "south" / "head.json").write_bytes(noted)  # the crash came before it
    with held(root) as file:
        assert counted(file.state) == 27
        assert file.state.entries[entry].state is EntryState.SPENT
        file.start(reserve(file, 1))


def test_a_shortened_file_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    begun(tmp_path)
    whole = lines_of(tmp_path).read_bytes()
    for size in range(0, len(whole), 97):
        lines_of(tmp_path).write_bytes(whole[:size])
        assert refusal(tmp_path).code == "ledger.E_LEDGER_ROLLBACK"
    lines_of(tmp_path).write_bytes(whole)
    with held(tmp_path) as file:
        assert counted(file.state) == 17


def test_any_changed_byte_is_named_by_its_line(tmp_path: Path) -> None:
    begun(tmp_path)
    whole = lines_of(tmp_path).read_bytes()
    for place in range(0, len(whole), 41):
        changed = bytearray(whole)
        changed[place] ^= 1
        lines_of(tmp_path).write_bytes(changed)
        with pytest.raises((IntegrityError, Refused)) as told, held(tmp_path):
            pass
        line = whole[:place].count(b"\n") + 1
        newline = whole[place : place + 1] == b"\n"
        assert told.value.code in {"ledger.edited", "ledger.impossible", "ledger.E_LEDGER_ROLLBACK"}
        if told.value.code == "ledger.edited" and not newline:
            assert told.value.value in {f"line {line}", f"line {line + 1}"}


def test_a_line_taken_out_moved_or_repeated_is_edited(tmp_path: Path) -> None:
    begun(tmp_path)
    lines = lines_of(tmp_path).read_bytes().splitlines(keepends=True)
    for changed in ([*lines[:3], *lines[4:]], [*lines[:2], lines[3], lines[2], *lines[4:]], [*lines, lines[-1]]):
        lines_of(tmp_path).write_bytes(b"".join(changed))
        assert refusal(tmp_path).code == "ledger.edited"


def test_a_last_line_that_was_edited_with_its_chain_is_named_by_the_head(tmp_path: Path) -> None:
    """The chain holds, because nothing follows; the head beside it knows better."""
    with held(tmp_path) as file:
        file.set_budgets([BUDGET])
        entry = reserve(file, 10)
        file.start(entry)
        file.commit(entry, [steps(9)], RESULT)
    lines = lines_of(tmp_path).read_bytes().splitlines()
    lines[-1] = lines[-1].replace(b'"times":9', b'"times":1')
    lines_of(tmp_path).write_bytes(b"".join(line + b"\n" for line in lines))
    told = refusal(tmp_path)
    assert (told.code, told.value) == ("ledger.edited", "line 5")
    assert refusal(tmp_path, lost=()).code == "ledger.edited"


def test_an_older_copy_is_refused_until_the_partner_says_so_and_what_was_lost_is_spent(tmp_path: Path) -> None:
    begun(tmp_path)
    older = lines_of(tmp_path).read_bytes()
    with held(tmp_path) as file:
        reserve(file, 100)
    lines_of(tmp_path).write_bytes(older)
    assert refusal(tmp_path).code == "ledger.E_LEDGER_ROLLBACK"
    with held(tmp_path, lost=[steps(100)]) as file:
        assert counted(file.state) == 117
        file.start(reserve(file, 1))
    with held(tmp_path) as file:
        assert counted(file.state) == 118


def test_a_deleted_ledger_does_not_begin_anew_by_itself(tmp_path: Path) -> None:
    begun(tmp_path)
    lines_of(tmp_path).unlink()
    assert refusal(tmp_path).code == "ledger.E_LEDGER_ROLLBACK"
    with held(tmp_path, lost=[steps(17)]) as file:
        assert counted(file.state) == 17


def test_a_ledger_without_its_head_is_refused(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "south" / "head.json").unlink()
    assert "without its head.json" in str(refusal(tmp_path))
    with held(tmp_path, lost=()) as file:
        assert counted(file.state) == 17
    with held(tmp_path):
        pass


@pytest.mark.parametrize("last", range(1, 9))
def test_what_was_lost_is_not_forgotten_by_a_crash_while_it_is_accepted(tmp_path: Path, last: int) -> None:
    begun(tmp_path)
    lines_of(tmp_path).unlink()
    with pytest.raises(Crash), held(tmp_path, durability=CrashAt(last), lost=[steps(17)]):
        raise Crash  # it ended before
    accepted = False
    with suppress(Refused), held(tmp_path) as file:  # asked for again, or known
        assert counted(file.state) == 17
        accepted = True
    assert accepted == (last >= 4)  # the line that says so is the second
    with held(tmp_path, lost=None if accepted else [steps(17)]) as file:
        assert counted(file.state) == 17


class Crash(BaseException):
    """The process is gone."""


@dataclasses.dataclass
class CrashAt:
    last: int

    def reached(self, point: str) -> None:
        self.last -= 1
        if self.last == 0:
            raise Crash


@dataclasses.dataclass
class FullAt:
    """No space left for one kind of write."""

    full: str = ""

    def reached(self, point: str) -> None:
        if point == self.full:
            raise OutOfSpace("no space left", code="disk.full")


def test_without_room_for_the_line_nothing_is_debited_and_nothing_may_run(tmp_path: Path) -> None:
    disk = FullAt()
    with held(tmp_path, durability=disk) as file:
        file.set_budgets([BUDGET])
        disk.full = "ledger.line.write"
        with pytest.raises(OutOfSpace):
            reserve(file, 10)
        assert counted(file.state) == 0
        disk.full = ""
        file.start(reserve(file, 10))
    assert counted(read_lines(lines_of(tmp_path)).ledger) == 10


def test_without_room_for_the_head_the_debit_holds_and_the_head_follows(tmp_path: Path) -> None:
    disk = FullAt()
    with held(tmp_path, durability=disk) as file:
        file.set_budgets([BUDGET])
        disk.full = "ledger.head.write"
        reserve(file, 10)
    with held(tmp_path) as file:
        assert counted(file.state) == 10


@pytest.mark.parametrize("what", ["", "ledger.jsonl"])
def test_a_read_only_ledger_is_refused_before_anything_is_debited(tmp_path: Path, what: str) -> None:
    begun(tmp_path)
    place = tmp_path / "south" / what
    mode = place.stat().st_mode
    place.chmod(mode & ~0o222)
    told = refusal(tmp_path)
    place.chmod(mode)
    assert isinstance(told, Refused)
    assert told.code == "ledger.read_only"


@pytest.mark.parametrize("change", ["appended", "replaced", "shortened"])
def test_a_file_that_changes_under_its_holder_is_not_written_to(tmp_path: Path, change: str) -> None:
    begun(tmp_path)
    path = lines_of(tmp_path)
    with held(tmp_path) as file:
        whole = path.read_bytes()
        if change == "replaced":
            path.rename(path.with_name("away"))
        path.write_bytes({"appended": whole + b"x", "replaced": whole, "shortened": whole[:-9]}[change])
        with pytest.raises(IntegrityError, match="by somebody else"):
            reserve(file, 1)
        assert counted(file.state) == 17


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    with held(tmp_path) as file:
        file.set_budgets([BUDGET])
        with pytest.raises(BadInput):
            reserve(file, 1, run_id="not a run")
        with pytest.raises(Refused, match="more than one budget"):
            file.set_budgets([BUDGET, BUDGET])
    with held(tmp_path):
        pass
    with pytest.raises(BadInput), held(tmp_path, "../south"):
        pass


def test_a_renamed_folder_is_no_new_ledger(tmp_path: Path) -> None:
    begun(tmp_path)
    (tmp_path / "south").rename(tmp_path / "fresh")
    with pytest.raises(Refused, match="another data set's"), held(tmp_path, "fresh"):
        pass


KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)


def test_a_rolled_back_copy_is_noticed_by_a_head_from_outside_and_stays_refused(tmp_path: Path) -> None:
    """Both files are old: only what others hold tells."""
    begun(tmp_path)
    shutil.copytree(tmp_path / "south", tmp_path / "backup")
    with held(tmp_path) as file:
        assert file.leads_to(file.head)
        entry = reserve(file, 100)
        file.start(entry)
        file.commit(entry, [steps(100)], RESULT)
        head = file.head
    shutil.rmtree(tmp_path / "south")
    (tmp_path / "backup").rename(tmp_path / "south")
    for _ in range(2):
        with held(tmp_path) as file:
            assert not file.leads_to(head)
    with held(tmp_path) as file:
        assert file.state.doubts == (head,)
        with pytest.raises(Refused) as told:
            reserve(file, 1)
        assert told.value.code == "ledger.E_LEDGER_ROLLBACK"
        file.accept([steps(100)])
        assert counted(file.state) == 117
        reserve(file, 1)
        assert file.leads_to(head)
        with pytest.raises(Refused, match="in no doubt"):
            file.accept([])
    assert refusal(tmp_path, lost=[steps(1)]).code == "ledger.no_doubt"


def test_what_was_accepted_freezes_nobody_again_and_a_later_rollback_is_still_noticed(tmp_path: Path) -> None:
    """Whoever kept every head of the lines that were lost may send them; a head that was made since is another's."""
    begun(tmp_path)
    shutil.copytree(tmp_path / "south", tmp_path / "backup")
    with held(tmp_path) as file:
        lost = []
        for _ in range(20):
            reserve(file, 1)
            lost.append(file.head)
    shutil.rmtree(tmp_path / "south")
    shutil.copytree(tmp_path / "backup", tmp_path / "south")
    with held(tmp_path) as file:
        assert not file.leads_to(lost[9])
        assert not file.leads_to(lost[4])
        assert len(file.state.doubts) == 1
        file.accept([steps(10)])
        assert [file.leads_to(head) for head in lost[:10]] == [True] * 10
        reserve(file, 1)
        assert file.leads_to(file.head)
        assert not file.leads_to(lost[19])  # more was spent there than was known when the word was given
        file.accept([steps(10)])
        assert all(file.leads_to(head) for head in lost)
    shutil.rmtree(tmp_path / "backup")
    shutil.copytree(tmp_path / "south", tmp_path / "backup")
    with held(tmp_path) as file:
        reserve(file, 1)
        since = file.head
    assert since.lines < lost[19].lines
    shutil.rmtree(tmp_path / "south")
    (tmp_path / "backup").rename(tmp_path / "south")
    with held(tmp_path) as file:
        assert not file.leads_to(since)


def test_a_word_of_an_earlier_release_which_kept_the_id_gives_up_the_head_that_it_names_alone() -> None:
    begun = Opened(data_set="south", ledger="ab" * 16, at=1.0)
    head = Head(ledger="ab" * 16, lines=9, head=RESULT)
    word = Accepted(head=head, lost=(), at=2.0, number=1)
    lower = msgspec.structs.replace(head, lines=8)
    assert [replay((begun, word)).given_up(each) for each in (head, lower)] == [True, False]
    renamed = msgspec.structs.replace(word, ledger="cd" * 16)
    assert [replay((begun, renamed)).given_up(each) for each in (head, lower)] == [True, True]


def test_one_word_accepts_all_doubts_and_counts_what_was_lost_once(tmp_path: Path) -> None:
    begun(tmp_path)
    older = lines_of(tmp_path).read_bytes()
    heads = []
    with held(tmp_path) as file:
        for _ in range(3):
            reserve(file, 10)
            heads.append(file.head)
    shutil.rmtree(tmp_path / "south")
    begun(tmp_path)
    with held(tmp_path) as file:
        assert not file.leads_to(heads[0])
        assert not file.leads_to(heads[1])
    lines_of(tmp_path).write_bytes(older)  # and what stands beside it knows of other lines
    with held(tmp_path, lost=[steps(30)]) as file:
        assert counted(file.state) == 47
        assert file.state.doubts == ()


def test_a_fork_at_the_same_length_and_another_ledger_are_noticed(tmp_path: Path) -> None:
    begun(tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    begun(tmp_path / "three")
    heads = []
    for place, times in (("one", 5), ("two", 6), ("three", 5)):
        with held(tmp_path / place) as file:
            reserve(file, times)
            heads.append(file.head)
    with held(tmp_path / "one") as file:
        assert [file.leads_to(head) for head in heads] == [True, False, False]
        assert len(file.state.doubts) == 2


def test_an_older_head_of_the_same_history_is_fine(tmp_path: Path) -> None:
    begun(tmp_path)
    with held(tmp_path) as file:
        early = file.head
        reserve(file, 1)
        assert file.leads_to(early)


def test_what_was_lost_is_told_by_a_newer_copy(tmp_path: Path) -> None:
    """What this copy knows of an entry is taken off, and what it spent alone is not."""
    with held(tmp_path) as file:
        file.set_budgets([BUDGET])
        first = reserve(file, 10)
        file.start(first)
    older = read_lines(lines_of(tmp_path)).ledger  # ten, all that was reserved
    with held(tmp_path) as file:
        reserve(file, 20)
        study = file.open_study("tuning", [steps(40)])
        reserve(file, 15, study=study.number)
    newer = read_lines(lines_of(tmp_path)).ledger
    assert lost_since(newer, older) == (steps(60),)
    assert lost_since(newer, newer) == (steps(25),)  # a study that is open counts as a whole
    assert lost_since(older, newer) == ()
    with held(tmp_path, "east") as file:
        file.set_budgets([BUDGET])
        reserve(file, 99)
        assert lost_since(newer, file.state) == (steps(70),)


ROWS = [row_bytes({"id": number, "age": number % 90}) for number in range(3000)]


@pytest.mark.parametrize(
    ("rows", "noticed"),
    [
        pytest.param(ROWS, True, id="renamed"),
        pytest.param([*ROWS, b"one more"], True, id="with-a-row-added"),
        pytest.param(ROWS[::-1], True, id="in-another-order"),
        pytest.param(ROWS[:500], True, id="a-part"),
        pytest.param([row + b"!" for row in ROWS], False, id="other-data"),
        pytest.param([*ROWS[:50], *(row + b"!" for row in ROWS[50:])], False, id="a-few-in-common"),
    ],
)
def test_the_same_rows_under_another_name_get_no_fresh_budget(tmp_path: Path, rows: list[bytes], noticed: bool) -> None:
    key = row_key(tmp_path, UNINTERRUPTED)
    with held(tmp_path) as file:
        file.check_rows(sketch_rows(key, ROWS))
    with held(tmp_path, "fresh") as file:
        if not noticed:
            file.check_rows(sketch_rows(key, rows))
            return
        with pytest.raises(Refused, match="another name") as told:
            file.check_rows(sketch_rows(key, rows))
        assert "south: 100%" in str(told.value)
        file.check_rows(sketch_rows(key, rows), another=["south"])
        file.check_rows(sketch_rows(key, rows))
    with held(tmp_path) as file:
        file.check_rows(sketch_rows(key, [*ROWS, b"two more"]))


def test_rows_are_kept_anew_only_when_they_changed_much(tmp_path: Path) -> None:
    key = row_key(tmp_path, UNINTERRUPTED)
    assert key == row_key(tmp_path, UNINTERRUPTED)
    with held(tmp_path) as file:
        for rows in (ROWS, ROWS[:-1], [*ROWS, b"more"], ROWS[:1500], ROWS):
            file.check_rows(sketch_rows(key, rows))
        assert [sketch.rows for sketch in file.state.sketches] == [3000, 1500, 3000]


def test_an_export_says_what_the_ledger_says_to_whoever_has_the_key(tmp_path: Path) -> None:
    begun(tmp_path)
    with held(tmp_path) as file:
        state = file.state
    data = export_ledger(lines_of(tmp_path), KEY)
    assert verify_export(data, public_key(KEY)).ledger == state
    with pytest.raises(Unauthenticated):
        verify_export(data, public_key(Ed25519PrivateKey.generate()))
    fields = json.loads(data)
    with pytest.raises((IntegrityError, Unauthenticated)):
        verify_export(canonical_json({**fields, "lines": fields["lines"][:-1]}), public_key(KEY))
    with pytest.raises(IntegrityError):
        other = [fields["lines"][0], fields["lines"][1].replace("8.0", "9.0"), *fields["lines"][2:]]
        verify_export(canonical_json({**fields, "lines": other}), public_key(KEY))


def test_every_line_is_what_it_was_written_as(tmp_path: Path) -> None:
    begun(tmp_path)
    for text in lines_of(tmp_path).read_bytes().splitlines():
        assert canonical_json(decode_json(Line, text, "a line")) == text
        assert RUN.encode() in text or b'"reserved"' not in text


def test_a_study_that_an_earlier_release_began_is_one_of_any_number_of_runs(tmp_path: Path) -> None:
    with held(tmp_path) as file:
        file.set_budgets([BUDGET])
        file.open_study("tuning", [steps(40)])
    (_, _, line) = lines_of(tmp_path).read_bytes().splitlines()
    fields = json.loads(line)
    del fields["body"]["trials"], fields["body"]["terms"]
    study = decode_canonical_json(Line, canonical_json(fields), "a line").body
    assert isinstance(study, StudyOpened)
    assert (study.trials, study.terms) == (0, None)


def test_the_key_of_rows_is_no_longer_than_its_hashes_tell(tmp_path: Path) -> None:
    one, other = (sketch_rows(Secret(bytes([each]) * 32), ROWS[:10]) for each in (1, 2))
    assert not set(one.split()) & set(other.split())
