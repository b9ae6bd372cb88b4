"""`python -m tests.support.webhdfs [PORT]`: the cluster as a process; its URL is the first line of its output."""

from __future__ import annotations

import signal
import sys

from tests.support.webhdfs.server import Cluster

if __name__ == "__main__":
    with Cluster(port=int(sys.argv[1]) if len(sys.argv) > 1 else 0) as cluster:
        print(cluster.url, flush=True)
        signal.sigwait({signal.SIGINT, signal.SIGTERM})
