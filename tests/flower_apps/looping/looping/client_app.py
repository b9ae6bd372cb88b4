"""A step that depends on chance and on the model."""

import random
import time

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Random numbers of both generators, added to the model."""
    time.sleep(context.run_config["seconds"])
    model = message.content["model"]["w"].numpy()
    step = np.random.normal(size=model.shape) + random.random() * context.node_config["value"]
    content = RecordDict(
        {"model": ArrayRecord({"w": Array(model * 0.9 + step)}), "metrics": MetricRecord({"num-examples": 1})}
    )
    return Message(content, reply_to=message)
