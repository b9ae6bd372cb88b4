"""`aimass data`: public data sets, fetched once and verified, and rows dealt to many partners."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aimass.proto.console import common, emit, say

__all__ = ["add_verbs"]

_SPLITTING = """Each partner gets a folder with rows and manifest: `aimass simulate --shards` reads them, and a real
partner declares the same rows with `aimass client data add`, under the participant and salt of its manifest.

These salts are public, as each follows from --seed and the partner's name: for data that is not public leave --salt out
there, and a secret one is drawn.

"""


def add_verbs(commands: Any) -> None:
    """Add `get`, `list` and `partition` to the sub-commands of `aimass data`."""
    get = commands.add_parser("get", help="fetch, verify and convert a set to Parquet, once")
    get.add_argument("name")
    get.add_argument("--cache", type=Path, help="cache folder (default: $AIMASS_CACHE, or aimass in your cache folder)")
    common(get, _get)
    listing = commands.add_parser("list", help="sets that can be fetched, and those that are here")
    listing.add_argument("--cache", type=Path)
    common(listing, _list)
    from aimass.proto.sharding import RULES

    deal = commands.add_parser(
        "partition",
        help="deal a data set's rows to partners: a folder of shards",
        description=_SPLITTING + RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    deal.add_argument("data", nargs="+", help="CSV or Parquet files, or the name of a set of `aimass data list`")
    deal.add_argument("--task", required=True, help="whose schema the rows have; its label is what rules look at")
    deal.add_argument("--out", type=Path, required=True, help="folder to write to")
    deal.add_argument("--split", default="iid", metavar="RULE", help="see above (iid)")
    deal.add_argument("--partners", type=int, help="how many")
    deal.add_argument("--seed", type=int, default=0, help="another seed deals otherwise (0)")
    deal.add_argument("--smallest", type=int, default=2, help="least rows of a partner under dirichlet (2)")
    deal.add_argument("--held-out", type=float, default=0.2, help="share of the rows that are never trained on (0.2)")
    deal.add_argument("--person", metavar="COLUMN", help="column that says whose each row is (default: not known)")
    deal.add_argument("--cache", type=Path)
    common(deal, _partition)


def _get(args: argparse.Namespace) -> int:
    from aimass.client.data_get import cache_folder, get

    folder, record = get(args.name, args.cache or cache_folder(), lambda text: say(args, text))
    emit(
        args,
        {"folder": str(folder), "licence": record.licence, "package": record.package, "files": sorted(record.files)},
    )
    return 0


def _list(args: argparse.Namespace) -> int:
    from aimass.client.data_catalog import CATALOG
    from aimass.client.data_get import cache_folder, cached

    cache = args.cache or cache_folder()
    emit(
        args,
        [
            {
                "name": item.name,
                "here": cached(item.name, cache) is not None,
                "from": f"{item.client} {item.package}",
                "licence": item.licence,
                "what": item.summary,
            }
            for item in CATALOG.values()
        ],
    )
    return 0


def _partition(args: argparse.Namespace) -> int:
    from aimass.client.data_get import data_files
    from aimass.proto.sharding import read_split, write_shards
    from aimass.proto.task import load, locate

    split = read_split(args.split, args.partners, args.seed, args.smallest)
    files = data_files(args.data, args.cache, lambda text: say(args, text))
    made = write_shards(
        load(locate(args.task)).schema, files, split, args.out, held_out=args.held_out, person=args.person
    )
    rows = sorted(shard.rows for shard in made.shards)
    emit(
        args,
        {
            "folder": str(args.out),
            "split": str(split),
            "partners": len(rows),
            "rows": sum(rows),
            "rows_a_partner": f"{rows[0]} to {rows[-1]}, median {rows[len(rows) // 2]}",
            "first": list(made.shards[:5]) if not args.json else list(made.shards),
        },
    )
    return 0
