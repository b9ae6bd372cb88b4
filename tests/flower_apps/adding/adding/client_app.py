"""Adds the node's `value`, and counts as much as its `weight`."""

from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The update is `value`, and the shift of the run's configuration."""
    value = context.node_config["value"] + context.run_config["shift"]
    arrays = {name: array.numpy() + value for name, array in message.content["arrays"].items()}
    metrics = MetricRecord(
        {"loss": float(value), "twice": [value, 2.0 * value], "num-examples": context.node_config["weight"]}
    )
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(array) for name, array in arrays.items()}),
            "metrics": metrics,
        }
    )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """A tenth of `value`, where the model is as wide as it was sent."""
    shapes = {name: array.numpy().shape for name, array in message.content["arrays"].items()}
    if shapes != {"layer.weight": (2, 2), "layer.bias": (1,)}:
        raise ValueError(f"another model: {shapes}")
    metrics = MetricRecord(
        {
            "accuracy": context.node_config["value"] / 10,
            "num-examples": context.node_config["weight"],
        }
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
