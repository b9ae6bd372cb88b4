"""`./scripts/bench NAME [--json FILE] [--quick]`: run one benchmark, print a table, draw a picture; the same
figures as JSON where they are asked for."""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import os
import platform
import sys
from pathlib import Path

from scripts.benches import flower_peer, serving_peers
from scripts.benches.row import Row

BENCHES = (
    "app",
    "client",
    "convergence",
    "dp",
    "explain",
    "explain_federated",
    "gpu",
    "idle",
    "memory",
    "offline",
    "robust",
    "round",
    "scale",
    "secagg",
    "serving",
    "simulate",
    "start",
    "swap",
    "traffic",
    "tune",
)
"""Modules beside this one; what one needs, Opacus for instance, the others do not load."""
WITH_PEERS = {"round": flower_peer.install, "secagg": flower_peer.install, "serving": serving_peers.install}
WITH_MORE = {"convergence", "dp", "explain", "memory", "offline", "robust"}


def machine() -> dict[str, str | int | None]:
    """Facts that a reader needs beside the figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        "",
    )
    return {"system": platform.system(), "cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


def main() -> int:
    """Run the benchmark that was named."""
    parser = argparse.ArgumentParser(description="benchmarks: " + ", ".join(BENCHES))
    parser.add_argument("name", choices=BENCHES)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions, for daily use")
    parser.add_argument("--peers", action="store_true", help="measure peers too, in an environment of their own")
    parser.add_argument("--curve", action="store_true", help="dp: accuracy against epsilon, an hour on two cores")
    parser.add_argument(
        "--full",
        action="store_true",
        help="dp: ten epochs of MNIST against Opacus; convergence: non-IID too; robust: nine seeds; each takes hours. "
        "explain: 1,000 simulations of each interval, minutes. "
        "memory: a model of 1 GB, minutes. offline: 30 GB of rows, hours",
    )
    args = parser.parse_args()
    if args.curve and args.name != "dp":
        parser.error("--curve is dp's")
    if args.full and args.name not in WITH_MORE:
        parser.error(f"{args.name} has no --full")
    if args.peers and args.name not in WITH_PEERS:
        parser.error(f"{args.name} has no peers")
    if args.peers:
        WITH_PEERS[args.name]()
    more = {name: True for name in ("peers", "curve", "full") if getattr(args, name)}
    rows: list[Row] = importlib.import_module(f"scripts.benches.{args.name}").measure(quick=args.quick, **more)
    wide = max(28, *(len(row.metric) for row in rows))
    for row in rows:
        met = "" if row.met is None else "met" if row.met else "NOT met"
        target = "" if row.target is None else f"target {row.target:g}"
        beside = "" if row.peer is None else f"peer {row.peer:.3f}, {row.peer / row.value:.1f} x  "
        sys.stdout.write(
            f"{row.metric:<{wide}} {row.value:>9.3f} {row.unit:<4} "
            f"[{row.range[0]:.3f}, {row.range[1]:.3f}]  {beside}{target} {met}\n"
        )
    picture = Path("bench-output") / f"{args.name}.png"
    from scripts.benches.picture import draw  # half a second that a wrong argument need not wait for

    draw(args.name, rows, picture)
    sys.stdout.write(f"picture: {picture}\n")
    if args.json:
        figures = {
            "bench": args.name,
            "machine": machine(),
            "rows": [dataclasses.asdict(row) | {"met": row.met} for row in rows],
        }
        args.json.write_text(json.dumps(figures, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
