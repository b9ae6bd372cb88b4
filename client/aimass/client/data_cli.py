"""`aimass data`: public data sets, fetched once and verified, and rows dealt to many partners."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from aimass.proto.console import Bar, common, emit, say

__all__ = ["add_verbs"]

_SPLITTING = """Each partner gets a folder with rows and manifest: `aimass simulate --shards` reads them, and a real
partner declares the same rows with `aimass client data add`, under the participant and salt of its manifest.

These salts are public, as each follows from --seed and the partner's name: for data that is not public leave --salt out
there, and a secret one is drawn.

"""

_GENERATING = """example:
  aimass data generate adult --bytes 2GB --out large

Rows of the source, drawn with replacement, whose numbers and pixels each move a little: ranges and gaps stay, and
almost no two rows are equal. For load, not for quality: what a model learns of it was in the source. A larger table
begins with the rows of a smaller one of the same seed; repeated, the command goes on where it stopped.

"""


def add_verbs(commands: Any) -> None:
    """Add `get`, `list`, `partition` and `generate` to the sub-commands of `aimass data`."""
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
    _add_generate(commands)


def _add_generate(commands: Any) -> None:
    grown = commands.add_parser(
        "generate",
        help="make a table of any size from a real one: for load, not for quality",
        description=_GENERATING,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    grown.add_argument("data", nargs="+", help="CSV or Parquet files, or the name of a set of `aimass data list`")
    size = grown.add_mutually_exclusive_group(required=True)
    size.add_argument("--rows", type=int, metavar="N")
    size.add_argument("--bytes", metavar="SIZE", help="rows that take so much memory, such as 500MB or 2GiB")
    grown.add_argument("--seed", type=int, default=0, help="another seed draws other rows (0)")
    grown.add_argument("--out", type=Path, required=True, help="folder to write to")
    grown.add_argument("--cache", type=Path)
    common(grown, _generate)


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


def _generate(args: argparse.Namespace) -> int:
    from aimass.client.data_get import data_files
    from aimass.client.load_table import grow, made_of, read_source
    from aimass.proto.data_sets import read_size

    files = data_files(args.data, args.cache, lambda text: say(args, text))
    source = read_source(files)
    made = made_of(files, args.rows if args.bytes is None else source.rows_of(read_size(args.bytes)), args.seed)
    with Bar(args, "rows", of="million rows") as bar:
        written = grow(source, made, args.out, bar)
    emit(
        args,
        {
            "folder": str(args.out),
            "rows": made.rows,
            "files": len(written),
            "bytes": sum(path.stat().st_size for path in written),
        },
    )
    return 0
