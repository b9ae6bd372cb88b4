"""Evaluation raises where the node's configuration says so."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


@app.train()
def train(message: Message, context: Context) -> Message:
    """The model as it came."""
    metrics = MetricRecord({"num-examples": context.node_config["weight"]})
    content = RecordDict({"arrays": ArrayRecord(dict(message.content["arrays"])), "metrics": metrics})
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The node's number, or an error that names a row."""
    if context.node_config["value"] == 2:
        raise ZeroDivisionError("row 17 of Jane Doe is empty")
    metrics = MetricRecord(
        {"accuracy": float(context.node_config["value"]), "num-examples": context.node_config["weight"]}
    )
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
