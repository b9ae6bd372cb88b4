"""`aimass data`: public data sets, fetched once and verified."""

from __future__ import annotations

import argparse
from pathlib import Path

from aimass.proto.console import common, emit, group, say

__all__ = ["add_arguments"]

_EXAMPLE = """examples:
  aimass data list
  aimass data get heart
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass data`."""
    commands = group(parser, _EXAMPLE)
    get = commands.add_parser("get", help="fetch, verify and convert a set to Parquet, once")
    get.add_argument("name")
    get.add_argument("--cache", type=Path, help="cache folder (default: $AIMASS_CACHE, or aimass in your cache folder)")
    common(get, _get)
    listing = commands.add_parser("list", help="sets that can be fetched, and those that are here")
    listing.add_argument("--cache", type=Path)
    common(listing, _list)


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
