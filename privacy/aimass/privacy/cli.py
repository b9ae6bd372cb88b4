"""`aimass pki`: the root holder's commands. They need no network and touch one folder."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from aimass.proto.console import ask, common, emit, group, write_output

if TYPE_CHECKING:
    from aimass.privacy.root_store import RootStore
    from aimass.proto.secret import Secret

__all__ = ["add_arguments"]

_SHORTEST: Final = 12

_MOST_HOURS: Final = 8_760
_EXAMPLE = """examples:
  aimass pki init root --name heart-federation --protect
  aimass pki token server --role server --host fed.example.org --root root --out server.token
  aimass pki token north --role partner --root root --out north.token
  aimass pki roster sign --root root --requests requests.json --out bundle.json
  aimass pki revoke north --root root --out bundle.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass pki`."""
    commands = group(parser, _EXAMPLE)
    init = commands.add_parser("init", help="make a root: keys that sign who is in the federation")
    init.add_argument("folder", type=Path)
    init.add_argument("--name", default="AIMass federation", help="name in the root certificate")
    init.add_argument("--protect", action="store_true", help="ask for a passphrase that encrypts the root's keys")
    _passphrase_file(init)
    common(init, _init)
    token = commands.add_parser("token", help="make a one-time token for a newcomer")
    token.add_argument("name")
    token.add_argument(
        "--role", default="partner", choices=["partner", "operator", "scientist", "analyst", "service", "server"]
    )
    token.add_argument("--host", action="append", default=[], help="host name or address where it serves (repeat)")
    token.add_argument("--hours", type=float, default=48.0, help="how long it can be used (48)")
    token.add_argument("--out", type=Path, required=True, help="file to write it to, mode 0600")
    _root(token)
    common(token, _token)
    roster = commands.add_parser("roster", help="sign newcomers into the roster").add_subparsers(required=True)
    signing = roster.add_parser("sign", help="check requests against the tokens and sign a new bundle")
    signing.add_argument("--requests", type=Path, nargs="*", default=[], help="files of enrolment requests")
    signing.add_argument("--out", type=Path, required=True, help="file for the signed bundle")
    signing.add_argument("--yes", action="store_true", help="do not ask")
    _root(signing)
    _passphrase_file(signing)
    common(signing, _sign)
    revoke = commands.add_parser("revoke", help="end somebody's membership and certificate")
    revoke.add_argument("name")
    revoke.add_argument("--out", type=Path, required=True, help="file for the signed bundle")
    _root(revoke)
    _passphrase_file(revoke)
    common(revoke, _revoke)
    renew = commands.add_parser("renew", help="new certificates, over the same keys, for members whose end is near")
    renew.add_argument("--days", type=float, default=90.0, help="for certificates that end within so many days (90)")
    renew.add_argument("--out", type=Path, required=True, help="file for the signed bundle")
    _root(renew)
    _passphrase_file(renew)
    common(renew, _renew)
    succeed = commands.add_parser("succeed", help="put a new root in the place of this one, which signs it")
    succeed.add_argument("--to", type=Path, required=True, help="folder for the new root")
    succeed.add_argument("--name", required=True, help="name in the new root's certificate")
    succeed.add_argument("--out", type=Path, required=True, help="file for the signed bundle")
    succeed.add_argument("--protect", action="store_true", help="ask for a passphrase for the new root's keys")
    _root(succeed)
    _passphrase_file(succeed)
    common(succeed, _succeed)
    show = commands.add_parser("show", help="show the root, its members and tokens")
    _root(show)
    common(show, _show)


def _root(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--root", type=Path, default=Path("root"), help="the root's folder (./root)")


def _passphrase_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--passphrase-file", type=Path, help="file whose first line opens the root's keys")


def _passphrase(args: argparse.Namespace, *, needed: bool, twice: bool = False) -> Secret | None:
    """From the file that was named, else typed where it is needed; never from the command line."""
    from getpass import getpass

    from aimass.proto.errors import BadInput
    from aimass.proto.home import read_key_file
    from aimass.proto.secret import Secret

    if args.passphrase_file is not None:
        lines = read_key_file(args.passphrase_file).reveal().splitlines()
        typed = lines[0] if lines else b""
    elif needed:
        typed = getpass("Passphrase of the root's keys: ").encode()
        if twice and getpass("The same again: ").encode() != typed:
            raise BadInput("the two passphrases differ", code="pki.passphrase_differs", cure="Try again.")
    else:
        return None
    if len(typed) < _SHORTEST:
        raise BadInput(
            "the passphrase is too short", code="pki.passphrase_short", value=len(typed), limit=f"from {_SHORTEST}"
        )
    return Secret(typed)


def _opened(args: argparse.Namespace) -> RootStore:
    """The root's folder, its keys' passphrase asked for where they have one."""
    from aimass.privacy.keys import is_encrypted
    from aimass.privacy.root_store import RootStore

    store = RootStore.open(args.root)
    return RootStore.open(args.root, _passphrase(args, needed=is_encrypted(store.folder / "root.key")))


def _init(args: argparse.Namespace) -> int:
    from aimass.privacy.root_store import RootStore

    passphrase = _passphrase(args, needed=args.protect, twice=True)
    store = RootStore.create(args.folder, args.name, time.time(), passphrase)
    emit(args, {"folder": str(args.folder), "fingerprint": store.root.fingerprint})
    return 0


def _token(args: argparse.Namespace) -> int:
    from aimass.privacy.enrolment import write_token
    from aimass.privacy.pki import Role
    from aimass.privacy.root_store import RootStore
    from aimass.proto.errors import BadInput

    if not 0 < args.hours <= _MOST_HOURS:
        raise BadInput(
            "a token is good for some hours", code="pki.hours", value=args.hours, limit=f"above 0, to {_MOST_HOURS}"
        )
    store = RootStore.open(args.root)
    if args.out.is_dir() or not args.out.parent.is_dir():  # before the token stands in the root's list
        raise BadInput("the token cannot be written here", code="pki.out", value=args.out, cure="Name a file.")
    expires = time.time() + args.hours * 3600
    token = store.token(args.name, Role(args.role), tuple(args.host), expires)
    write_output(args.out, (write_token(token) + "\n").encode(), 0o600)
    emit(
        args,
        {
            "token": str(args.out),
            "name": token.name,
            "role": str(token.role),
            "hours": args.hours,
            "root_fingerprint": store.root.fingerprint,
        },
    )
    return 0


def _sign(args: argparse.Namespace) -> int:
    from aimass.privacy.enrolment import decode_request, request_fingerprint
    from aimass.proto.errors import Refused
    from aimass.proto.values import decode_json
    from aimass.proto.views import EnrolmentList

    store = _opened(args)
    texts = [
        view.request
        for path in args.requests
        for view in decode_json(EnrolmentList, path.read_bytes(), str(path)).requests
    ]
    now, good, refused = time.time(), [], []
    for request in [decode_request(text.encode()) for text in texts]:
        # Anybody can leave a request at the enrolment port: one that is refused must not hold up the others.
        error = store.examine(request, now)
        refused += [{"name": request.name, "role": str(request.role), "reason": error.sentence()}] if error else []
        good += [] if error else [request]
        verdict = f"REFUSED: {error}" if error else "made by who holds the token"
        sys.stderr.write(f"{request.role} {request.name}: request {request_fingerprint(request)[:16]}: {verdict}\n")
    if refused and not good:
        raise Refused("no request can be signed", code="pki.all_refused", value=len(refused))
    if not args.yes and not ask(f"Sign {len(good)} requests with root {store.root.fingerprint[:16]}?"):
        raise Refused("nothing was signed", code="pki.not_confirmed", cure="Answer y, or give --yes.")
    bundle = store.sign(good, now)
    write_output(args.out, bundle, 0o644)
    emit(
        args,
        {
            "bundle": str(args.out),
            "epoch": store.state.epoch,
            "signed": [request.name for request in good],
            "refused": refused,
        },
    )
    return 0


def _revoke(args: argparse.Namespace) -> int:
    store = _opened(args)
    write_output(args.out, store.revoke(args.name), 0o644)
    emit(args, {"revoked": args.name, "bundle": str(args.out), "epoch": store.state.epoch})
    return 0


def _renew(args: argparse.Namespace) -> int:
    from aimass.privacy.renewal import renew

    store = _opened(args)
    renewed = renew(store, time.time(), args.days * 86_400)
    write_output(args.out, store.bundle(), 0o644)
    emit(args, {"renewed": list(renewed), "bundle": str(args.out), "epoch": store.state.epoch})
    return 0


def _succeed(args: argparse.Namespace) -> int:
    from aimass.privacy.renewal import succeed

    old = _opened(args)
    passphrase = _passphrase(argparse.Namespace(passphrase_file=None), needed=args.protect, twice=True)
    new = succeed(old, args.to, args.name, time.time(), passphrase)
    write_output(args.out, new.bundle(), 0o644)
    emit(
        args,
        {
            "root": str(args.to),
            "fingerprint": new.root.fingerprint,
            "old_fingerprint": old.root.fingerprint,
            "bundle": str(args.out),
            "epoch": new.state.epoch,
            "next": "aimass server admit BUNDLE; partners compare the fingerprint and approve it",
        },
    )
    return 0


def _show(args: argparse.Namespace) -> int:
    from aimass.privacy.root_store import RootStore

    store = RootStore.open(args.root)
    state = store.state
    emit(
        args,
        {
            "fingerprint": store.root.fingerprint,
            "epoch": state.epoch,
            "members": [
                {"id": m.id, "name": m.name, "role": str(m.role), "revoked": m.revoked, "serial": m.serial}
                for m in state.members
            ],
            "tokens": [
                {"name": t.token.name, "role": str(t.token.role), "used": bool(t.used_by), "expires": t.token.expires}
                for t in state.tokens
            ],
        },
    )
    return 0
