"""One exchange for each way of using mods."""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """The steps of the mods and the number that comes back."""
    node = sorted(grid.get_node_ids())[:2]
    for action in ("train", "train.clipped", "train.private"):
        content = RecordDict(
            {
                "arrays": ArrayRecord({"w": Array(np.zeros(1))}),
                "config": ConfigRecord({"clipping_norm": 0.5}),
            }
        )
        for reply in grid.send_and_receive([Message(content, each, action) for each in node]):
            told = {
                "action": action,
                "steps": list(reply.content["trace"]["steps"]),
                "w": reply.content["arrays"]["w"].numpy().tolist(),
            }
            print("SHOW", json.dumps(told), flush=True)
