"""Commands as a person types them: help that teaches, and a sentence with cause and cure for every wrong input."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from aimass.proto.commands import main

GROUPS = {
    "pki": ["init", "token", "roster sign", "revoke", "renew", "succeed", "show"],
    "server": ["init", "admit", "retire-root", "gc", "backup", "backup verify", "restore", "audit", "start", "status", "enrolments",
        "app install", "app list", "app remove"],
    "client": [
        "init", "enroll", "start", "status", "stop", "pending", "approve", "show", "journal", "budget", "budget show",
        "budget accept", "budget another", "budget export", "budget verify", "policy show", "policy check", "roster show", "roster approve", "data add", "data check", "app install", "app list", "app remove",
        "model list", "model export", "model remove", "base add", "base list", "base remove",
    ],
    "run": ["submit", "list", "show", "watch", "pause", "resume", "stop", "prune", "receipts", "statistics", "end-study"],
    "plan": ["check"],
    "model": ["list", "show", "export", "manifest", "merge", "publish", "promote", "rollback", "import", "gc", "diff",
        "lineage", "verify", "key", "trust add", "trust list", "trust remove", "rules set", "rules show"],
    "serve": ["start", "status", "audit", "token add", "token list", "token revoke"],
    "explain": ["report", "lpi", "gap", "prim", "segviz", "masks", "pixels", "pieces", "space", "run", "federated", "app"],
    "tune": ["search", "resume", "show", "end"],
    "task": ["list", "digest", "new", "check"],
    "data": ["list", "get", "partition", "generate", "split", "register", "describe", "export",
        "replicate", "verify", "repair", "gc", "init", "serve", "status", "watch", "admit"],
}  # fmt: skip
COMMANDS = [f"{group} {name}" for group, names in GROUPS.items() for name in names]
SHORT = ("serve heart", "tune plan.toml")
"""What `serve start heart` and `tune search plan.toml` may be shortened to."""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a root, a server's token and a partner's."""
    monkeypatch.chdir(tmp_path)
    for command in (
        "pki init root",
        "pki token hub --role server --host localhost --root root --out hub.token",
        "pki token north --root root --out north.token",
        "server init server --token hub.token",
        "client init north --name north --server localhost:1 --enrol localhost:2",
    ):
        assert main(command.split()) == 0, command
    return tmp_path


def _failure(command: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, str]]:
    capsys.readouterr()
    code = main([*command.split(), "--json"])
    captured = capsys.readouterr()
    # What belonged to an event loop that an earlier test has closed may be handed to this one by gRPC's poller.
    assert "Traceback" not in captured.err or "PollerCompletionQueue" in captured.err
    return code, json.loads(captured.err.strip().splitlines()[-1])["error"]


@pytest.mark.parametrize("group", list(GROUPS))
def test_the_help_of_a_group_shows_an_example_before_anything_else(
    group: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([group, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out.partition("\n\n")[2]
    assert text.startswith("examples:\n  aimass ")
    for line in re.findall(r"^  (aimass .*)$", text.partition("positional")[0], re.MULTILINE):
        assert any(line.startswith(f"aimass {command}") for command in (*COMMANDS, *SHORT)), line


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_says_what_it_does(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "--help"])
    assert ended.value.code == 0
    assert "usage: aimass" in capsys.readouterr().out


def test_who_deals_rows_reads_that_their_salts_are_public(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["data", "partition", "--help"])
    assert "These salts are public" in capsys.readouterr().out


def test_help_and_light_commands_load_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from aimass.proto.commands import main\n"
        "try: main(['client', '--help'])\nexcept SystemExit: pass\n"
        "print(sorted(set(sys.modules) & {'torch', 'grpc', 'numpy', 'pyarrow', 'sqlalchemy', 'cryptography'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("command", "exit_code", "code"),
    [
        ("pki init root", 6, "pki.exists"),
        ("pki token North --root root --out t", 2, "pki.name"),
        ("pki token north --role server --root root --out t", 2, "pki.hosts"),
        ("pki token hub --role server --host bad_host! --root root --out t", 2, "pki.host"),
        ("pki token x --root nowhere --out t", 4, "pki.absent"),
        ("pki token x --root root --hours inf --out t", 2, "pki.hours"),
        ("pki token x --root root --hours nan --out t", 2, "pki.hours"),
        ("pki token x --root root --hours -1 --out t", 2, "pki.hours"),
        ("pki token x --root root --out nowhere/t", 2, "pki.out"),
        ("pki token x --root root --out north", 2, "pki.out"),
        ("pki revoke nobody --root root --out b", 4, "pki.unknown"),
        ("pki roster sign --root root --out nowhere/b --yes", 2, "file.output"),
        ("pki roster sign --root root --out / --yes", 2, "file.output"),
        ("pki init hub.token", 2, "file.kind"),
        ("pki roster sign --root root --requests nothing.json --out b --yes", 4, "file.absent"),
        ("pki roster sign --root root --requests north.token --out b --yes", 2, "value.invalid"),
        ("server init other --token north.token", 2, "server.token"),
        ("server init other --token north/client.toml", 2, "enrol.token"),
        ("server init other --token absent", 4, "file.absent"),
        ("server init other --token hub.token --listen nonsense", 2, "wire.address"),
        ("server start --dir server", 4, "server.not_enrolled"),
        ("server start --dir nowhere", 4, "server.absent"),
        ("server admit north.token --dir server", 2, "value.invalid"),
        ("server admit b --dir nowhere", 4, "file.absent"),
        ("server admit north.token --dir nowhere", 4, "server.absent"),
        ("server gc --dir server", 4, "server.no_store"),
        ("server retire-root --dir server", 4, "server.no_previous_root"),
        ("client init north --name north --server a:1 --enrol a:2", 6, "client.exists"),
        ("client init x --name North --server a:1 --enrol a:2", 2, "client.name"),
        ("client init x --name x --server a:port --enrol a:2", 2, "wire.address"),
        ("client enroll --dir nowhere --token north.token", 4, "home.absent"),
        ("client enroll --dir north", 2, "enrol.no_token"),
        ("client enroll --dir north --token hub.token", 2, "enrol.name"),
        ("client enroll --dir north --token root", 2, "file.kind"),
        ("client start --dir nowhere", 4, "home.absent"),
        ("client status --dir north", 5, "client.not_running"),
        ("client status --dir nowhere", 4, "home.absent"),
        ("client journal --dir nowhere", 4, "home.absent"),
        ("client policy show --dir nowhere", 4, "home.absent"),
        ("client start --dir north", 4, "home.not_enrolled"),
        ("client pending --dir north", 4, "home.not_enrolled"),
        ("client roster show --dir north", 4, "home.not_enrolled"),
        ("client enroll --dir north --bundle north.token", 4, "home.not_enrolled"),
        ("client data add heart --dir north --schema heart/1 --uri no.csv --format csv", 4, "shard.file"),
        ("client data add heart --dir north --schema Heart --uri hub.token --format csv", 2, "value.invalid"),
        ("client data add heart --dir north --schema heart/1 --uri hub.token --format csv --held-out 2", 2, "value.invalid"),
        ("client data check heart --dir north --task heart", 4, "data.absent"),
        ("client show last --dir north", 4, "client.run"),
        ("client policy check absent.toml --dir north", 4, "file.absent"),
        ("plan check absent.toml", 4, "file.absent"),
        ("plan check north.token", 2, "value.toml"),
        ("run list --as nowhere", 4, "home.absent"),
        ("run list --as north", 4, "home.not_enrolled"),
        ("task digest nothing", 4, "task.unknown"),
        ("task new Bad_Name", 2, "task.name"),
        ("task new 2ward", 2, "task.name"),
        ("task new class", 6, "task.name_taken"),
        ("task new heart", 6, "task.name_taken"),
        ("task new json", 6, "task.name_taken"),
        ("data get nothing", 4, "data.unknown"),
        ("serve heart", 2, "serve.settings"),
        ("serve heart --registry file:///nowhere --trust absent --http nonsense", 2, "wire.address"),
        ("serve heart --registry file:///nowhere --trust absent --http 0.0.0.0:1", 3, "serve.open"),
        ("serve he@rt@ --registry file:///nowhere --trust absent", 2, "registry.reference"),
        ("serve heart --settings absent.toml", 4, "file.absent"),
        ("serve heart --settings hub.token", 2, "value.toml"),
        ("serve status --url http://127.0.0.1:9", 5, "serve.away"),
        ("serve status --url 127.0.0.1:9", 2, "serve.url"),
        ("serve token list", 4, "file.absent"),
        ("serve token revoke clinic --tokens hub.token", 2, "value.invalid"),
        ("serve token add Clinic", 2, "value.invalid"),
        ("serve token add clinic --may everything", 2, "value.invalid"),
        ("doctor --dir nowhere", 4, "doctor.folder"),
    ],
)  # fmt: skip
def test_a_wrong_input_is_told_by_name_with_a_cure_and_the_documented_exit_code(
    here: Path, capsys: pytest.CaptureFixture[str], command: str, exit_code: int, code: str
) -> None:
    found, error = _failure(command, capsys)
    assert (found, error["code"]) == (exit_code, code)


@pytest.mark.parametrize(
    ("text", "word"),
    [("plain_sum = true", "plain_sum"), ("smallest_cohort = 0", "smallest_cohort"), ("x = [", "TOML"),
     ('confinement = ["everything"]', "confinement")],
)  # fmt: skip
def test_a_slip_in_the_policy_is_an_error_with_its_place(
    here: Path, capsys: pytest.CaptureFixture[str], text: str, word: str
) -> None:
    (here / "north" / "policy.toml").write_text(text)
    code, error = _failure("client policy show --dir north", capsys)
    assert code == 2
    assert word in error["what"]
    assert "policy.toml" in error["what"]


HEART = "age,sex,cp,trestbps,chol,fbs,restecg,thalch,exang,oldpeak,slope,ca,thal,disease\n"


@pytest.mark.parametrize(("schema", "code"), [("heart/1", "rows.empty"), ("heart/2", "shard.schema")])
def test_what_the_daemon_would_refuse_is_refused_when_the_data_are_checked(
    here: Path, capsys: pytest.CaptureFixture[str], schema: str, code: str
) -> None:
    (here / "rows.csv").write_text(HEART)
    add = f"client data add heart --dir north --schema {schema} --uri rows.csv --format csv"
    assert main(add.split()) == 0
    assert _failure("client data check heart --dir north --task heart", capsys)[1]["code"] == code


def test_a_data_set_keeps_its_salt_when_it_is_added_again(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rows.csv").write_text(HEART)
    add = "client data add heart --dir north --schema heart/1 --uri rows.csv --format csv"
    assert main(add.split()) == 0
    before = (here / "north" / "data" / "heart.toml").read_bytes()
    assert _failure(add, capsys)[1]["code"] == "data.exists"
    assert (here / "north" / "data" / "heart.toml").read_bytes() == before


def _enrolled(name: str, role: str) -> None:
    """Enrol somebody by files, and the server with them."""
    for command in (
        *(
            []
            if Path(name).exists()
            else [f"client init {name} --name {name} --server localhost:1 --enrol localhost:2"]
        ),
        f"pki token {name} --role {role} --root root --out {name}.token",
        f"client enroll --dir {name} --token {name}.token --offline",
        f"pki roster sign --root root --requests server/server.request {name}/{name}.request --out b --yes",
        f"client enroll --dir {name} --bundle b",
    ):
        assert main(command.split()) == 0, command


def test_a_daemon_is_refused_to_who_is_no_partner(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _enrolled("olga", "operator")
    assert _failure("client start --dir olga", capsys)[1]["code"] == "client.role"


@pytest.mark.parametrize(("name", "role", "edits"), [("south", "partner", True), ("olga", "operator", False)])
def test_only_a_partner_is_told_to_edit_a_policy(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, role: str, edits: bool
) -> None:
    _enrolled(name, role)
    printed = capsys.readouterr().out
    assert ("policy.toml" in printed) is edits
    assert f"aimass client enroll --dir {name} --token FILE" in printed


def test_a_daemon_does_not_start_under_a_policy_that_cannot_be_read(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _enrolled("south", "partner")
    (here / "south" / "policy.toml").write_text("smallest_cohrt = 2")
    assert "smallest_cohrt" in _failure("client start --dir south", capsys)[1]["what"]


@pytest.mark.parametrize("limit", ["0", "-3", "99999999999", "many"])
@pytest.mark.parametrize("group", ["run", "model"])
def test_a_list_of_no_length_is_refused_with_the_numbers_that_are_allowed(
    capsys: pytest.CaptureFixture[str], group: str, limit: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([group, "list", "--as", "nobody", f"--limit={limit}"])
    assert ended.value.code == 2
    assert "1 to 1,000,000" in capsys.readouterr().err


def test_a_server_takes_no_bundle_of_other_keys_than_its_own(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _enrolled("north", "partner")
    assert main(["server", "init", "other", "--token", "hub.token"]) == 0
    assert _failure("server admit b --dir other", capsys)[1]["code"] == "server.other_keys"
    assert main(["server", "admit", "b", "--dir", "server"]) == 0


@pytest.mark.parametrize(
    ("listen", "exit_code", "word"),
    [
        ("127.0.0.1", 2, "HOST:PORT"),
        ("127.0.0.1:{held}", 5, "Address already in use"),
        ("192.0.2.1:8443", 5, "Cannot assign requested address"),
    ],
)
def test_an_address_that_cannot_be_served_is_told_with_the_systems_reason(
    here: Path, capsys: pytest.CaptureFixture[str], listen: str, exit_code: int, word: str
) -> None:
    _enrolled("south", "partner")
    assert main(["server", "admit", "b", "--dir", "server"]) == 0
    with socket.create_server(("127.0.0.1", 0)) as held:
        settings = here / "server" / "server.toml"
        address = listen.format(held=held.getsockname()[1])
        settings.write_text(f'name = "hub"\nlisten = "{address}"\nenrol_listen = "127.0.0.1:0"\n')
        code, error = _failure("server start --dir server", capsys)
    assert (code, error["value"]) == (exit_code, address)
    assert word in error["what"]


def test_a_damaged_run_store_is_told_as_that(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _enrolled("south", "partner")
    assert main(["server", "admit", "b", "--dir", "server"]) == 0
    (here / "server" / "data").mkdir()
    (here / "server" / "data" / "runs.sqlite").write_bytes(b"x" * 5_000)
    code, error = _failure("server start --dir server", capsys)
    assert (code, error["code"]) == (8, "store.damaged")


def test_a_new_token_makes_a_new_request_and_the_same_token_the_same(here: Path) -> None:
    request = here / "north" / "north.request"
    enroll = ["client", "enroll", "--dir", "north", "--offline", "--token"]
    made = []
    assert main(["pki", "token", "north", "--root", "root", "--out", "second.token"]) == 0
    for token in ("north.token", "north.token", "second.token"):
        assert main([*enroll, token]) == 0
        made.append(request.read_bytes())
    assert made[0] == made[1] != made[2]


def test_a_token_that_has_expired_is_not_sent(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pki", "token", "north", "--root", "root", "--hours", "1e-9", "--out", "late.token"]) == 0
    code, error = _failure("client enroll --dir north --token late.token", capsys)
    assert (code, error["code"]) == (3, "enrol.expired")
    assert not (here / "north" / "keys").exists()


def test_a_token_that_is_refused_leaves_the_root_as_it_was(here: Path) -> None:
    before = (here / "root" / "state.json").read_bytes()
    for words in ("--hours inf --out t", "--hours 1e300 --out t", "--out nowhere/t", "--out /"):
        assert main(["pki", "token", "x", "--root", "root", *words.split()]) == 2
    assert (here / "root" / "state.json").read_bytes() == before


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_a_root_with_a_name_that_no_certificate_takes_leaves_nothing_behind(here: Path, name: str) -> None:
    assert main(["pki", "init", "other", "--name", name]) == 2
    assert not (here / "other").exists()


def test_text_that_is_no_text_is_told_as_that(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "north" / "policy.toml").write_bytes(b"\xff\xfe\x00")
    assert _failure("client policy show --dir north", capsys)[1]["code"] == "file.encoding"


def test_a_used_or_damaged_token_never_appears_in_what_is_printed(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = (here / "north.token").read_text().strip()
    (here / "north.token").write_text(secret[:-8])
    (here / "north.token").chmod(0o600)
    capsys.readouterr()
    assert main(["client", "enroll", "--dir", "north", "--token", "north.token"]) == 2
    assert secret[10:40] not in "".join(capsys.readouterr())


def test_tokens_keys_and_the_roots_state_are_for_their_owner_alone(here: Path) -> None:
    private = ["root/root.key", "root/root-sign.key", "root/state.json", "north.token", "server/keys/identity.key"]
    assert all(stat.S_IMODE((here / name).stat().st_mode) == 0o600 for name in private)


def test_two_processes_do_not_work_in_one_folder(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from aimass.proto.durable import only_one

    _enrolled("south", "partner")
    with only_one(here / "south", "daemon"):
        code, error = _failure("client start --dir south", capsys)
        assert (code, error["code"]) == (6, "folder.held")
        assert str(os.getpid()) in error["value"]
    with only_one(here / "south", "daemon"):
        pass


def test_the_roots_keys_can_be_kept_under_a_passphrase(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, text in (("right", "correct horse battery\n"), ("wrong", "incorrect horse\n"), ("short", "x\n")):
        (here / name).write_text(text)
        (here / name).chmod(0o600)
    assert main(["pki", "init", "safe", "--passphrase-file", "right"]) == 0
    assert b"ENCRYPTED" in (here / "safe/root.key").read_bytes()
    assert main(["pki", "token", "anna", "--role", "scientist", "--root", "safe", "--out", "anna.token"]) == 0
    sign = "pki roster sign --root safe --out b --yes --passphrase-file"
    assert _failure(f"{sign} wrong", capsys)[1]["code"] == "keys.passphrase"
    assert _failure(f"{sign} short", capsys)[1]["code"] == "pki.passphrase_short"
    (here / "right").chmod(0o644)
    assert _failure(f"{sign} right", capsys)[1]["code"] == "keys.readable"


def test_what_nobody_foresaw_is_one_sentence_and_the_way_to_more(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aimass.privacy.root_store.RootStore.open", lambda *_: 1 // 0)
    code, error = _failure("pki show --root root", capsys)
    assert (code, error["code"]) == (1, "command.failed")
    assert "AIMASS_DEBUG=1" in error["cure"]


def test_a_package_that_is_missed_while_a_command_works_is_named_with_the_line_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "aimass.client.data_catalog", None)
    code, error = _failure("data list", capsys)
    assert (code, error["code"]) == (9, "command.extra")
    assert "pip install 'aimass[client,server]'" in error["cure"]
