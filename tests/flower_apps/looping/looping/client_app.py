"""A step that depends on the model and on chance: that of the server, as a node's own is another in each run."""

import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Random numbers from what the server drew, added to the model."""
    time.sleep(context.run_config["seconds"])
    model = message.content["model"]["w"].numpy()
    drawn = np.random.default_rng(message.content["chance"]["seed"])
    step = drawn.normal(size=model.shape) + drawn.random() * context.node_config["value"]
    content = RecordDict(
        {"model": ArrayRecord({"w": Array(model * 0.9 + step)}), "metrics": MetricRecord({"num-examples": 1})}
    )
    return Message(content, reply_to=message)
