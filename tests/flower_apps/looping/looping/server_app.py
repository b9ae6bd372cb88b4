"""Samples nodes by chance, and keeps a momentum that stands in memory alone."""

import random

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.serverapp import Grid, ServerApp

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """The mean of three nodes of four, with momentum and a little chance; the model stands in the state at the end."""
    model, momentum = np.zeros(4), np.zeros(4)
    for _ in range(context.run_config["num-server-rounds"]):
        chosen = random.sample(sorted(grid.get_node_ids()), 3)
        chance = ConfigRecord({"seed": random.getrandbits(32)})
        content = RecordDict({"model": ArrayRecord({"w": Array(model)}), "chance": chance})
        replies = grid.send_and_receive([Message(content, node, "train") for node in chosen])
        answers = sorted((reply.metadata.src_node_id, reply.content["model"]["w"].numpy()) for reply in replies)
        momentum = 0.5 * momentum + np.mean([answer for _, answer in answers], axis=0) - model
        model = model + momentum + np.random.normal(size=4) * 1e-3
    context.state["model"] = ArrayRecord({"w": Array(model)})
