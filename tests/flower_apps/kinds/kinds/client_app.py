"""Says what it was sent, and sends it back with one added to each number."""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """Kinds as they arrived, then everything back."""
    arrays, config = message.content["arrays"], message.content["config"]
    seen = {
        "arrays": {name: [array.dtype, list(array.shape)] for name, array in arrays.items()},
        "config": {key: [type(value).__name__, repr(value)] for key, value in config.items()},
        "lists": {
            key: sorted({type(one).__name__ for one in value})
            for key, value in config.items()
            if isinstance(value, list)
        },
    }
    back = {
        name: Array(~array.numpy() if array.dtype == "bool" else np.asarray(array.numpy() + 1, array.dtype))
        for name, array in arrays.items()
    }
    content = RecordDict(
        {
            "arrays": ArrayRecord(back),
            "seen": ConfigRecord({"seen": json.dumps(seen)}),
            "config": config,
            "metrics": MetricRecord({"num-examples": 1, "loss": 0.5, "counts": [1, 2], "shares": [0.5, 1.5]}),
        }
    )
    return Message(content, reply_to=message)


@app.query("bfloat16")
def bfloat16(message: Message, context: Context) -> Message:
    """An array of a type that numpy has no name for: two bytes for each element, as libraries that have it save them."""
    array = Array(np.zeros(2, "V2"))
    return Message(RecordDict({"arrays": ArrayRecord({"half": array})}), reply_to=message)
