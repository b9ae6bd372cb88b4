"""`aimass client init | enroll | roster`: who one is, and who else is in the federation."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

from aimass.client.local_link import ask_daemon
from aimass.proto.console import ask, emit, say, write_output

if TYPE_CHECKING:
    from aimass.privacy.enrolment import EnrolRequest

__all__ = ["enroll", "init", "roster_approve", "roster_show"]


_POLICY = """# What this partner permits. An unknown key is an error. Check a plan: aimass client policy check PLAN

# The server sees each contribution of a plain sum. Set to true to allow that.
plain_sums = false
# Demand secure aggregation; a run without it is refused. What it has to promise stands under [secure].
secure_aggregation = false
# Fewest partners in a run, and in a step's sum.
smallest_cohort = 2
# What the machine must enforce on the training child: "process" (no key, no environment), "files" (reads nothing of
# yours but the rows it is handed), "network" (reaches none), "calls" (no sockets, processes or signals).
# `aimass client init` found that this machine can enforce what stands here; a run where it does not hold is refused.
confinement = @CONFINEMENT@

[bounds]
rounds = 1000
epochs = 20
learning_rate = 1.0
# smallest_noise = 1.0    # least noise multiplier in a plan, its metrics' and analyses' too; a plan without has none
# sampling_rate = 0.05    # largest share of the rows that a private step may draw

[release]
metrics = ["loss", "accuracy", "auc", "dice"]   # leave as sums
figures = []                             # shown for this partner alone, under secure aggregation too
analyses = ["statistics"]  # also counts, histogram, moments, quantiles, trees, explain: only what stands here leaves
smallest_count = 5               # no table of those six, without noise, counts fewer rows
unprotected = false                      # whether these may leave of a data set with a privacy budget, without noise

# The most privacy that a data set may ever spend, over all runs, tasks and servers: then a plan needs differential
# privacy, and what it spends is written down before its training starts. See: aimass client budget.
# [[budgets]]
# data_set = "heart"
# epsilon = 8.0
# delta = 1e-5           # well below one in the number of rows
# unit = "example"       # or "person", or "partner": all that this data set contributes, by noise inside secure sums

# A search for settings reserves of a budget for all its runs at once. Each waits for a person here, unless it is of so
# few runs and costs no more than that, alone. One that nobody ends is ended so many days after its last step.
# [studies]
# trials = 20            # 0: each waits
# epsilon = 1.0
# days = 14.0

# The least that a plan with secure aggregation promises: it holds against a server that lies ("malicious"), or only
# against one that follows the protocol ("hbc"); fewest partners in a sum; the share of them that may work together with
# the server; fewest bits of an element where sums carry noise, since the rounding to fewer costs privacy. And the most
# inputs that this partner signs on one model: in a run, and for a data set over all runs.
[secure]
profile = "malicious"
min_cohort = 3
colluders = 0.0
smallest_bits = 12
contributions_per_model = 2
contributions_per_data = 100

# Boosted trees, where `analyses` names "trees": in secure sums alone, unless the server may read this partner's own
# histograms, by which one that lies singles out rows. Parts of a number's range, levels of a tree and rounds at most.
[trees]
plain = false
grid = 4096
depth = 8
rounds = 500

# Explanations, where `analyses` names "explain": in secure sums or with noise alone, unless the server may read this
# partner's own sums. Those of many steps (prim, slices) are never plain. Noise counts as such from a least multiple of
# what one row can change in all steps together; where a budget pays for it, the budget says how much is enough.
# Searches without noise count rows in groups of at least so many alike ones: no two of their steps differ by fewer.
[explain]
plain = false
smallest_noise = 1.0
smallest_group = 1

# Schemas that plans may name, and the data set here that answers: `aimass client data add` writes them.
[schemas]
"""


_NEXT = {
    "partner": "edit {dir}/policy.toml, which says what may happen here, then: aimass client start --dir {dir}",
    "operator": "aimass server status --as {dir}",
    "scientist": "aimass run submit PLAN --as {dir}",
    "analyst": "aimass model list --as {dir}",
    "service": "start the service on this folder, such as: aimass data serve --dir {dir}",
    "server": "aimass server start",
}
"""What comes after enrolment, by role."""


def init(args: argparse.Namespace) -> int:
    """Make a folder with settings, and the policy that a partner edits; who has another role never needs it."""
    from aimass.privacy.roster import NAME
    from aimass.proto.confinement import enforceable
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput, Conflict
    from aimass.proto.wire import split_address

    if not NAME.fullmatch(args.name):
        raise BadInput("a name is lower-case letters, digits and dashes", code="client.name", value=args.name)
    split_address(args.server)
    split_address(args.enrol)
    if (args.dir / "client.toml").exists():
        raise Conflict("a client is here already", code="client.exists", value=args.dir)
    make_folder(args.dir)
    settings = (
        f'name = "{args.name}"\nserver = "{args.server}"   # work: mutual TLS\nenrol = "{args.enrol}"    # enrolment\n'
        '# data = "data.example.org:8445"   # the data set service, if there is one\n'
        'log = "text"   # of the daemon; or "json": one object a line, for programs\n'
        '# watch_listen = "127.0.0.1:9465"   # /healthz, /readyz, /metrics over plain HTTP: keep it on the loopback\n'
        "[limits]\n"
        "up_bytes_per_s = 0     # to the server, all runs together; 0 is no limit\n"
        "down_bytes_per_s = 0   # and from it\n"
        f"min_free_bytes = {1 << 30}   # with less free on this disk no step is begun\n"
    )
    write_output(args.dir / "client.toml", settings.encode())
    levels = enforceable(args.dir)
    write_output(args.dir / "policy.toml", _POLICY.replace("@CONFINEMENT@", json.dumps(list(levels))).encode())
    emit(
        args,
        {
            "folder": str(args.dir),
            "confinement": list(levels),
            "next": f"aimass client enroll --dir {args.dir} --token FILE",
        },
    )
    return 0


def enroll(args: argparse.Namespace) -> int:
    """Make keys, bind them to the token, ask, and keep the certificate that comes back."""
    import time

    from aimass.privacy.enrolment import make_request, read_token, request_fingerprint
    from aimass.privacy.keys import create_keys, load_keys
    from aimass.privacy.trust_bundle import Root
    from aimass.proto.durable import make_folder
    from aimass.proto.errors import BadInput, Unauthenticated
    from aimass.proto.home import ROOT, load_home
    from aimass.proto.values import canonical_json
    from aimass.proto.views import EnrolmentList, EnrolmentView

    home = load_home(args.dir)
    make_folder(args.dir / "trust")
    if args.bundle is not None:
        return _admitted(args, args.bundle.read_bytes())
    if args.token is None:
        raise BadInput("enrolment needs a token", code="enrol.no_token", cure="Ask the root holder; then --token FILE.")
    token = read_token(args.token.read_text("ascii"))
    if token.name != home.name:
        raise BadInput("the token is for another name", code="enrol.name", value=token.name, limit=home.name)
    if token.expires < time.time():
        raise Unauthenticated(
            "the token has expired", code="enrol.expired", value=token.name, cure="Ask the root holder for a new one."
        )
    held = args.dir / "keys" / "identity.key"
    keys = load_keys(args.dir / "keys") if held.exists() else create_keys(args.dir / "keys")
    write_output(args.dir / ROOT, token.root.encode())
    root = Root.from_pem(token.root.encode())
    request_file = args.dir / f"{home.name}.request"
    request = _kept_request(request_file)
    if request is None or request.token_id != token.id:
        request = make_request(token, keys)
        view = EnrolmentView(
            name=home.name,
            role=token.role,
            fingerprint=request_fingerprint(request),
            received_at=time.time(),
            request=canonical_json(request).decode(),
        )
        write_output(request_file, canonical_json(EnrolmentList(requests=(view,))))
    text = canonical_json(request).decode()
    if args.offline:
        emit(
            args,
            {
                "request": str(request_file),
                "fingerprint": request_fingerprint(request),
                "root_fingerprint": root.fingerprint,
            },
        )
        return 0
    return _ask_server(args, home.enrol, root.certificate_pem, text)


def _kept_request(path: Path) -> EnrolRequest | None:
    """The request that was made before, where there is one: asking again with the same token asks the same."""
    from aimass.privacy.enrolment import decode_request
    from aimass.proto.values import decode_json
    from aimass.proto.views import EnrolmentList

    if not path.is_file():
        return None
    kept = decode_json(EnrolmentList, path.read_bytes(), str(path)).requests
    return decode_request(kept[0].request.encode()) if kept else None


def _ask_server(args: argparse.Namespace, address: str, root_pem: bytes, text: str) -> int:
    from aimass.proto.enrol_client import enrol

    def pending(fingerprint: str) -> None:
        say(args, f"request {fingerprint[:16]} waits for the root holder")

    return _admitted(args, asyncio.run(enrol(address, root_pem, text.encode(), pending)))


def _admitted(args: argparse.Namespace, data: bytes) -> int:
    """Install a bundle that holds our own certificate, and say what this role does next."""
    from aimass.privacy.keys import load_keys, spki
    from aimass.privacy.pki import peer_of
    from aimass.privacy.trust_bundle import Root, open_bundle
    from aimass.proto.errors import Unauthenticated
    from aimass.proto.home import BUNDLE, CERTIFICATE, ROOT, load_home, not_enrolled

    home = load_home(args.dir)
    if not (args.dir / ROOT).is_file():
        raise not_enrolled(args.dir)
    trust = open_bundle(data, Root.from_pem((args.dir / ROOT).read_bytes()))
    own = [pem for subject, pem in trust.certificates.items() if subject.endswith(f"/{home.name}")]
    import hashlib

    digest = hashlib.sha256(spki(load_keys(args.dir / "keys").tls)).digest()
    match = next((pem for pem in own if peer_of(pem).tls_sha256 == digest), None)
    if match is None:
        raise Unauthenticated(
            "the bundle holds no certificate for this key", code="enrol.no_certificate", value=home.name
        )
    write_output(args.dir / BUNDLE, data)
    write_output(args.dir / CERTIFICATE, match)
    write_output(args.dir / ROOT, trust.root.to_pem())
    role = str(peer_of(match).role)
    emit(
        args,
        {
            "enrolled": home.name,
            "role": role,
            "root_fingerprint": trust.root.fingerprint,
            "roster_epoch": trust.roster.epoch,
            "partners": list(trust.roster.partners),
            "next": _NEXT[role].format(dir=args.dir),
        },
    )
    return 0


def roster_show(args: argparse.Namespace) -> int:
    """Members in force, and those of a roster that waits."""
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED

    keeper = Keeper(args.dir, UNINTERRUPTED)
    members = [
        {"id": m.id, "role": m.role.name.lower(), "name": m.name, "identity": m.identity.hex()}
        for m in keeper.roster.members
    ]
    waiting = keeper.pending
    emit(
        args,
        {
            "epoch": keeper.roster.epoch,
            "digest": keeper.roster.digest,
            "root": keeper.root.fingerprint,
            "root_waits": waiting.root.fingerprint if waiting and waiting.root != keeper.root else None,
            "members": members,
            "waits": sorted(waiting.roster.by_name) if waiting else [],
        },
    )
    return 0


def roster_approve(args: argparse.Namespace) -> int:
    """Accept the roster that waits, in the daemon where it runs."""
    from aimass.client.keeper import Keeper
    from aimass.proto.durable import UNINTERRUPTED
    from aimass.proto.errors import Refused, Unavailable

    keeper = Keeper(args.dir, UNINTERRUPTED)
    waiting = keeper.pending
    if waiting is not None and waiting.root != keeper.root and not args.yes:
        say(args, "The root itself changes.")
        say(args, f"  from {keeper.root.fingerprint}")
        say(args, f"  to   {waiting.root.fingerprint}")
        if not ask("Did the root holder tell you this fingerprint by another way?"):
            raise Refused("nothing was approved", code="roster.not_confirmed", cure="Answer y, or give --yes.")
    try:
        ask_daemon(args, command="approve-roster")
    except Unavailable:
        Keeper(args.dir, UNINTERRUPTED).approve()
    return roster_show(args)
