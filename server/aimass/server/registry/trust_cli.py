"""`aimass model trust | key`: whom readers of a registry believe, and a key for who has none."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from aimass.proto.console import common, emit
from aimass.proto.registry.places import add_trust, trust_path

if TYPE_CHECKING:
    from aimass.proto.registry.trust import May, TrustFile

__all__ = ["add_verbs"]

_TRUSTING: Final = """The trust file says whose signatures count: who may publish versions, who may promote them. It is
yours alone, and no server or registry can change it. Serving reads it again when it changes.

  aimass model trust add olga --from olga                     from her folder
  aimass model trust add olga --key 9f0c... --may publish     a key that she told you by another way
  aimass model trust add server --federation olga             a member that the root of her federation vouches for
  aimass model trust remove olga                              nothing of hers counts any more
  aimass model trust registry prod                            nothing counts that was promoted in another registry
"""


def add_verbs(commands: Any) -> None:
    """Add the verbs of trust."""
    key = commands.add_parser("key", help="registry: make a key for somebody without a federation")
    key.add_argument("folder", type=Path, help="new folder that bears the owner's name; give it with --as")
    common(key, _key)
    trust = commands.add_parser(
        "trust",
        help="registry: whom to believe",
        description=_TRUSTING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = trust.add_subparsers(required=True, metavar="COMMAND")
    add = verbs.add_parser("add", help="believe somebody, or allow them more")
    add.add_argument("name", help="as you know them; of a federation's member, its name there")
    source = add.add_mutually_exclusive_group(required=True)
    source.add_argument("--from", dest="folder", type=Path, metavar="FOLDER", help="their folder on this machine")
    source.add_argument("--key", metavar="HEX", help="their public key, as `aimass model key` printed it")
    source.add_argument("--federation", type=Path, metavar="FOLDER", help="a folder of a member of the same federation")
    add.add_argument("--may", default="publish,promote", help="publish, promote, or both with a comma (both)")
    add_trust(add)
    common(add, _add)
    listing = verbs.add_parser("list", help="who is believed")
    add_trust(listing)
    common(listing, _list)
    remove = verbs.add_parser("remove", help="believe somebody no more")
    remove.add_argument("name")
    remove.add_argument("--key", default="", metavar="HEX", help="this key alone, by its first digits")
    add_trust(remove)
    common(remove, _remove)

    registry = verbs.add_parser(
        "registry",
        help="tell this registry from others",
        description="""The keys sign for every registry. With a name in the trust file, each promotion and each set of
        rules is signed for the registry of that name, and none counts that is not. Give the same to all who promote in
        a registry, and to all who read it.""",
    )
    registry.add_argument("name", help='prod, staging; "" for any')
    add_trust(registry)
    common(registry, _registry)


def _key(args: argparse.Namespace) -> int:
    from aimass.server.registry.authors import make_key

    author = make_key(args.folder)
    emit(args, {"name": author.name, "folder": str(args.folder), "public_key": author.public})
    return 0


def _add(args: argparse.Namespace) -> int:
    from aimass.proto.registry.trust import Signer
    from aimass.proto.values import convert
    from aimass.server.registry.authors import read_author
    from aimass.server.registry.trusting import key_of_member, trusting, with_signer

    if args.folder is not None:
        key = read_author(args.folder).public
    elif args.federation is not None:
        key = key_of_member(args.federation, args.name)
    else:
        key = args.key
    may: tuple[May, ...] = tuple(dict.fromkeys(args.may.split(",")))
    signer = convert(Signer, {"name": args.name, "key": key, "may": may}, "who is to be believed")
    return _write(args, with_signer(trusting(trust_path(args)), signer))


def _remove(args: argparse.Namespace) -> int:
    from aimass.server.registry.trusting import trusting, without_signer

    return _write(args, without_signer(trusting(trust_path(args)), args.name, args.key))


def _registry(args: argparse.Namespace) -> int:
    from aimass.server.registry.trusting import trusting, with_registry

    return _write(args, with_registry(trusting(trust_path(args)), args.name))


def _write(args: argparse.Namespace, trust: TrustFile) -> int:
    from aimass.server.registry.trusting import write_trust

    write_trust(trust_path(args), trust)
    return _list(args)


def _list(args: argparse.Namespace) -> int:
    from aimass.server.registry.trusting import trusting

    path = trust_path(args)
    trust = trusting(path)
    emit(args, {"file": str(path), "registry": trust.registry, "signers": trust.signers})
    return 0
