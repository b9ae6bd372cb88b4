"""What a confined process can do, as whoever runs the tests and as a user without rights."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from aimass.client.policy import read_policy
from aimass.proto import confinement
from aimass.proto.commands import main
from aimass.proto.confinement import cuda_inside, enforceable
from aimass.proto.seccomp import filter_program

_PROBE = """
import ctypes, encodings.idna, fcntl, os, resource, signal, socket, subprocess, sys, threading
from pathlib import Path
from aimass.proto.confinement import confine
from aimass.proto.home import ChildLimits
secret, other, scratch, port, user, hears = sys.argv[1:7]
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
def sends_a_datagram():
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    pair[0].sendto(b"rows", hears)
def has_others_signalled():
    reads, _ = os.pipe()
    fcntl.fcntl(reads, fcntl.F_SETOWN, os.getppid())
def changes_the_clock():
    mode = ctypes.create_string_buffer((0x1).to_bytes(4, "little"), 256)  # ADJ_OFFSET by nothing
    call("adjtimex", mode)
if int(user) != os.getuid():
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(int(user), int(user), int(user))
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # what a change of user takes, and the start of a program gives
limits = ChildLimits(memory_bytes=512 << 20, file_bytes=1 << 20)
levels = confine([], Path(scratch), Path(secret), os.getppid(), limits)
def does(action):
    try:
        action()
        return True
    except (OSError, MemoryError):
        return False
facts = {
    "key": does(lambda: Path(secret).read_bytes()),
    "other partner": does(lambda: Path(other).read_bytes()),
    "environment": does(lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes()),
    "writes outside": does(lambda: (Path(other).parent / "new").write_text("x")),
    "connects": does(lambda: socket.socket().connect((b"127.0.0.1", int(port)))),
    "socket": does(lambda: socket.socket(socket.AF_UNIX).close()),
    "forks": does(lambda: os.fork() or os._exit(0)),
    "runs a program": does(lambda: subprocess.run(["/bin/true"], check=True)),
    "signals": does(lambda: os.kill(os.getppid(), 0)),
    "fills memory": does(lambda: bytearray(1 << 30)),
    "fills the disk": does(lambda: (Path(scratch) / "large").write_bytes(bytes(2 << 20))),
    "sends a datagram": does(sends_a_datagram),
    "has others signalled": does(has_others_signalled),
    "limits others": does(lambda: resource.prlimit(os.getppid(), resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE))),
    "opens the key to all": does(lambda: os.chmod(secret, 0o666)),
    "gives the key away": does(lambda: os.chown(secret, os.getuid(), os.getgid())),
    "stamps": does(lambda: os.utime(secret, (1, 1))),
    "marks": does(lambda: os.setxattr(secret, "user.rows", b"rows")),
    "leaves a segment": does(lambda: call("shmget", 0, 4096, 0o1600)),
    "leaves a queue": does(lambda: call("msgget", 0, 0o1600)),
    "names the machine": does(lambda: socket.sethostname(socket.gethostname())),
    "sets the clock": does(changes_the_clock),
    "its own pair": does(lambda: [each.close() for each in socket.socketpair()]),
    "its own limits": does(lambda: resource.getrlimit(resource.RLIMIT_NOFILE)),
    "writes scratch": does(lambda: (Path(scratch) / "small").write_bytes(b"x")),
    "threads": does(lambda: threading.Thread(target=int).start()),
}
print(" ".join(sorted(levels)))
print(",".join(name for name, did in facts.items() if did))
"""
_FILES = {"key", "other partner", "environment", "writes outside"}
_CALLS = {
    "connects", "socket", "forks", "runs a program", "signals", "sends a datagram", "has others signalled",
    "limits others", "opens the key to all", "gives the key away", "stamps", "marks", "leaves a segment",
    "leaves a queue",
}  # fmt: skip
_ROOTS = {"names the machine", "sets the clock"}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix="aimass-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def _run(folder: Path, user: int) -> tuple[set[str], set[str]]:
    scratch, secret, other = folder / "scratch", folder / "identity.key", folder / "other.parquet"
    scratch.mkdir()
    for path in (secret, other):
        path.write_text("secret")
    for path in (folder, scratch, secret, other):
        os.chown(path, user, -1)
    hears = folder / "log"
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(hears))
        hears.chmod(0o777)
        port = str(server.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, secret, other, scratch, port, str(user), hears],
            capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    levels, did = done.stdout.splitlines()
    return set(levels.split()), set(did.split(","))


def _another_user() -> int:
    """Nobody, where whoever runs the tests may become nobody; else who runs them, who has no rights either."""
    return pwd.getpwnam("nobody").pw_uid if os.getuid() == 0 else os.getuid()


@pytest.mark.parametrize("user", [os.getuid(), _another_user()], ids=["own", "without-rights"])
def test_what_is_reported_holds_and_what_a_task_needs_still_works(open_folder: Path, user: int) -> None:
    levels, did = _run(open_folder, user)
    assert "process" in levels
    # A machine that cannot do more reports less; what it reports must hold.
    if "files" in levels:
        assert not did & _FILES
    if "network" in levels:
        assert "connects" not in did
    if "calls" in levels:
        assert not did & _CALLS
    assert not did & {"fills memory", "fills the disk"} | did & _ROOTS
    assert {"writes scratch", "threads", "its own pair", "its own limits"} <= did


def test_an_unknown_machine_has_no_filter_and_reports_so() -> None:
    assert filter_program("vax", 1) is None


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_stays_inside_it_and_it_ends_by_allowing(machine: str) -> None:
    program = filter_program(machine, 4242)
    assert program is not None
    steps = list(struct.iter_unpack("<HBBI", program))
    for index, (code, if_true, if_false, _) in enumerate(steps):
        if code & 0x07 == 0x05:
            assert index + 1 + max(if_true, if_false) < len(steps)
    assert steps[-1] == (0x06, 0, 0, 0x7FFF0000)


@pytest.mark.parametrize(("machine", "arch", "pair", "control", "device", "limits"), [
    ("x86_64", 0xC000003E, 53, 72, 16, 302), ("aarch64", 0xC00000B7, 199, 25, 29, 261),
])  # fmt: skip
def test_what_others_could_be_reached_by_is_refused_by_its_arguments(
    machine: str, arch: int, pair: int, control: int, device: int, limits: int
) -> None:
    program = filter_program(machine, 4242)
    assert program is not None

    def allowed(number: int, *arguments: int) -> bool:
        return _interpreted(program, struct.pack("<IIQQQ", number, arch, 0, *arguments)) == _ALLOWED

    assert [kind for kind in range(8) if allowed(pair, _UNIX, kind)] == [_STREAM, _SEQPACKET]
    assert not allowed(pair, 30, _STREAM)  # TIPC
    assert allowed(pair, _UNIX, _STREAM | _CLOEXEC)
    assert [command for command in range(40) if not allowed(control, 3, command)] == [8, 10, 15]
    assert [command for command in range(0x8900, 0x8910) if not allowed(device, 3, command)] == [0x8901, 0x8902]
    assert [pid for pid in (0, 1, 4241, 4242, 4243) if allowed(limits, pid, 7)] == [0, 4242]


@pytest.mark.parametrize(
    ("number", "argument", "allowed"),
    [(0, 0, True), (41, 0, False), (56, 0x10000 | 0x100, True), (56, 17, False), (234, 4242, True), (234, 1, False),
     (435, 0, False), (0x40000000, 0, False), (425, 0, False), (9, 0, True)],
)  # fmt: skip
def test_the_filter_decides_as_it_says_when_it_is_interpreted(number: int, argument: int, *, allowed: bool) -> None:
    program = filter_program("x86_64", 4242)
    assert program is not None
    data = struct.pack("<IIQQ", number, 0xC000003E, 0, argument)
    assert (_interpreted(program, data) == 0x7FFF0000) == allowed
    assert _interpreted(program, struct.pack("<IIQQ", 0, 0x40000003, 0, 0)) != 0x7FFF0000


_UNIX, _INET, _STREAM, _SEQPACKET, _CLOEXEC = 1, 2, 1, 5, 0o2000000
_ALLOWED, _EPERM, _ENOENT = 0x7FFF0000, 0x00050001, 0x00050002


@pytest.mark.parametrize(("machine", "arch", "making", "connecting", "accepting", "accepting_4"), [
    ("x86_64", 0xC000003E, 41, 42, 43, 288), ("aarch64", 0xC00000B7, 198, 203, 202, 242),
])  # fmt: skip
def test_a_driver_may_make_one_kind_of_local_socket_and_connects_to_nobody(
    machine: str, arch: int, making: int, connecting: int, accepting: int, accepting_4: int
) -> None:
    def decided(number: int, *arguments: int, driver: bool = True, own_network: bool = False) -> int:
        program = filter_program(machine, 4242, driver=driver, own_network=own_network)
        assert program is not None
        return _interpreted(program, struct.pack("<IIQQQ", number, arch, 0, *(*arguments, 0, 0)[:2]))

    for flags in (0, _CLOEXEC):
        assert decided(making, _UNIX, _SEQPACKET | flags) == _ALLOWED
        assert decided(making, _UNIX, _SEQPACKET | flags, driver=False) == _EPERM
        assert decided(making, _UNIX, _STREAM | flags) == _EPERM
        assert decided(making, _INET, _SEQPACKET | flags) == _EPERM
        assert decided(making, _INET, _STREAM | flags) == _EPERM
    assert decided(connecting, 3) == _ENOENT
    for listening in (accepting, accepting_4):
        assert decided(listening, 3) == _EPERM  # whoever shares this network could ask for what is here
        assert decided(listening, 3, own_network=True) == _ALLOWED
        assert decided(listening, 3, driver=False, own_network=True) == _EPERM
    assert decided(connecting, 3, driver=False) == _ALLOWED  # there is nothing to connect
    for number in (0, 9, 1, 7):  # what comes after still decides of all other calls
        assert decided(number) == decided(number, driver=False)


def _interpreted(program: bytes, data: bytes) -> int:
    """Run a classic BPF program over `struct seccomp_data`, as the kernel's documentation describes it."""
    steps, position, held = list(struct.iter_unpack("<HBBI", program)), 0, 0
    while True:
        code, if_true, if_false, value = steps[position]
        position += 1
        match code:
            case 0x20:
                held = int(struct.unpack_from("<I", data, value)[0])
            case 0x54:
                held &= value
            case 0x15 | 0x35 | 0x45:
                holds = {0x15: held == value, 0x35: held >= value, 0x45: bool(held & value)}[code]
                position += if_true if holds else if_false
            case 0x06:
                return int(value)


def test_a_new_partners_policy_demands_what_its_machine_can_enforce(tmp_path: Path) -> None:
    levels = enforceable(tmp_path)
    assert "process" in levels
    assert list(tmp_path.iterdir()) == []
    assert (
        main(["client", "init", str(tmp_path / "north"), "--name", "north", "--server", "a:1", "--enrol", "a:2"]) == 0
    )
    policy = read_policy((tmp_path / "north" / "policy.toml").read_text(), "the policy")
    assert policy.confinement == levels


@pytest.mark.parametrize(("hard", "wanted"), [("-1", "1 1"), ("5000", "1 1"), ("0", "0 0")])
def test_a_process_with_keys_leaves_its_memory_to_no_core_file_and_to_no_handler(hard: str, wanted: str) -> None:
    probe = """
import resource, sys
hard = int(sys.argv[1])
resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))
from aimass.proto.confinement import forbid_core_files
forbid_core_files()
print(*resource.getrlimit(resource.RLIMIT_CORE))
"""
    done = subprocess.run([sys.executable, "-c", probe, hard], capture_output=True, text=True, check=False)
    if "not allowed to raise maximum limit" in done.stderr:
        pytest.skip("the limit here is lower, and may not be raised")
    assert done.stdout.strip() == wanted, done.stderr


_DEVICE_PROBE = """
import fcntl, getpass, os, socket, sys, threading
from pathlib import Path
from aimass.proto import confinement
scratch, secret, outside, *devices = sys.argv[1:]
confinement._nvidia_devices = lambda: [Path(device) for device in devices]
levels = confinement.confine([], Path(scratch), Path(secret), os.getppid())
def refused(action):
    try:
        action()
    except OSError as error:
        return error.strerror
    return ""
def control(path):
    device = os.open(path, os.O_RDWR)
    fcntl.ioctl(device, 0x7A7A)  # one that no device has
stay = threading.Event()
thread = threading.Thread(target=stay.wait, daemon=True)
thread.start()
print(sorted(levels))
print(refused(lambda: control("/dev/full")))
print(refused(lambda: control("/dev/null")))
print(refused(lambda: Path(f"/proc/self/task/{thread.native_id}/comm").write_text("named")))
print(refused(lambda: Path(f"/proc/self/oom_score_adj").write_text("0")))
print(getpass.getuser())
def listens(kind):
    with socket.socket(socket.AF_UNIX, kind) as made:
        made.bind(bytes(1) + b"cuda")
        made.listen()
def connects():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as made:
        made.connect(outside)
print(refused(lambda: listens(socket.SOCK_SEQPACKET)))
print(refused(lambda: listens(socket.SOCK_STREAM)))
print(refused(connects))
stay.set()
"""
"""/dev/full stands for a driver's device: one that can be opened, and that knows no such command."""


@pytest.mark.parametrize("devices", [["/dev/full"], []])
def test_a_driver_may_control_its_devices_and_name_its_threads_and_nothing_else(
    tmp_path: Path, devices: list[str]
) -> None:
    places = [tmp_path / name for name in ("scratch", "secret", "outside")]
    places[0].mkdir()
    places[1].write_text("secret")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as outside:
        outside.bind(str(places[2]))
        outside.listen()
        done = subprocess.run(
            [sys.executable, "-I", "-c", _DEVICE_PROBE, *map(str, places), *devices],
            capture_output=True, text=True, check=False, cwd="/", env={},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    levels, device, other, names, adjusts, user, listens, streams, connects = done.stdout.split("\n")[:9]
    if not {"'files'", "'calls'"} <= set(levels.strip("[]").split(", ")):
        pytest.skip("this kernel has no Landlock, or takes no filter")
    denied, forbidden = "Permission denied", "Operation not permitted"
    assert (listens, streams, connects) == (
        ("", forbidden, "No such file or directory") if devices else (forbidden, forbidden, forbidden)
    )
    assert device == ("Inappropriate ioctl for device" if devices else denied)
    assert other in (denied, "Inappropriate ioctl for device")  # before the fifth version commands are not watched
    assert names == ("" if devices else denied)
    assert adjusts == denied
    assert user == f"uid_{os.getuid()}"


def test_what_a_gpus_driver_answers_inside_is_told_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Driver:
        def __init__(self, name: str) -> None:
            assert name == "libcuda.so.1"

        def cuInit(self, flags: int) -> int:  # noqa: N802  (CUDA's name)
            return 304 + flags

    monkeypatch.setattr(confinement, "_nvidia_devices", lambda: [Path("/dev/full")])
    with monkeypatch.context() as patched:
        patched.setattr("ctypes.CDLL", Driver)
        assert confinement._start_cuda() == "cuda=304"
    answers = (("cuda=304", 304), ("cuda=0", 0), ("cuda=absent", None), ("calls", -1))
    for told, code in ((["files", word], code) for word, code in answers):
        monkeypatch.setattr(confinement, "_from_inside", lambda *_, told=told: told)
        assert cuda_inside(tmp_path) == code
    monkeypatch.setattr(confinement, "_nvidia_devices", list)
    assert cuda_inside(tmp_path) is None


def test_a_driver_that_does_not_come_back_is_no_driver_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confinement, "_nvidia_devices", lambda: [Path("/dev/full")])
    monkeypatch.setattr(confinement, "_PROBE_S", 0.01)
    assert cuda_inside(tmp_path) == -1
