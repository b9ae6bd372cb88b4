"""`aimass data`: the verbs of both sides under one name, each loaded with what it needs when it is called."""

from __future__ import annotations

import argparse
import importlib
from typing import Final

from aimass.proto.console import group

__all__ = ["add_arguments"]

_EXAMPLE: Final = """examples:
  aimass data list
  aimass data get heart
  aimass data partition digits --task digits --partners 100 --split dirichlet:0.3 --seed 7 --out shards
  aimass data split adult adult --task adult --split rows:5000 --store file:///data
  aimass data describe adult --store file:///data
  aimass data replicate adult --store file:///data --to s3://bucket/data
  aimass data repair adult --store file:///data
  aimass data serve --dir data-service
  aimass data status --as scientist --service data.example.org:8445
  aimass data generate adult --bytes 2GB --out large
"""
_VERBS: Final = (
    "aimass.client.data_cli",
    "aimass.server.datasets.data_cli",
    "aimass.server.datasets.care_cli",
    "aimass.server.datasets.service_cli",
)
"""Modules with `add_verbs(commands)`: a partner's verbs, and the operator's."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass data`."""
    commands = group(parser, _EXAMPLE)
    for module in _VERBS:
        importlib.import_module(module).add_verbs(commands)
