"""`aimass explain`: questions about models and runs, each verb loaded with what it needs when it is called."""

from __future__ import annotations

import argparse
import importlib
import importlib.util
from typing import Final

from aimass.proto.console import group

__all__ = ["add_arguments"]

_EXAMPLE: Final = """examples:
  aimass explain report heart@champion --rows heart --out heart.html --registry s3://models/prod
  aimass explain gap last --as scientist --rows cleveland=cleveland.csv --rows basel=basel.csv --out gap
  aimass explain lpi model.safetensors --task heart --rows heart --row 3 --out why
  aimass explain prim http://127.0.0.1:8080/v2/models/heart --rows heart --out where
  aimass explain segviz mymodel:predict --rows table.csv --label outcome --out wrong
  aimass explain run last --as scientist --out run
  aimass explain federated confusion last --as scientist --out answers
  aimass explain app --as scientist --registry s3://models/prod --rows heart=heart.parquet
"""
_VERBS: Final = (
    "aimass.explain.question_cli",
    "aimass.explain.report.report_cli",
    "aimass.explain.runs.runs_cli",
    "aimass.explain.federated_cli",
    "aimass.explain.app.app_cli",
)
"""Modules with `add_verbs(commands)`."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands of `aimass explain`."""
    commands = group(parser, _EXAMPLE)
    for module in _VERBS:
        if importlib.util.find_spec(module.rpartition(".")[0]) and importlib.util.find_spec(module):
            importlib.import_module(module).add_verbs(commands)
