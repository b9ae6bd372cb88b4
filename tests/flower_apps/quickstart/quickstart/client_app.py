"""Gradient descent on the node's own rows."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def rows(context: Context) -> tuple[np.ndarray, np.ndarray]:
    """Features with a column of ones, and what is predicted."""
    table = np.loadtxt(context.node_config["rows"], delimiter=",", skiprows=1)
    return np.column_stack([table[:, :-1], np.ones(len(table))]), table[:, -1]


@app.train()
def train(message: Message, context: Context) -> Message:
    """So many steps down the gradient of the mean squared error."""
    features, target = rows(context)
    weights = message.content["arrays"]["weights"].numpy()
    for _ in range(context.run_config["local-epochs"]):
        error = features @ weights - target
        weights = weights - context.run_config["lr"] * features.T @ error / len(target)
    loss = float(np.mean((features @ weights - target) ** 2))
    content = RecordDict(
        {
            "arrays": ArrayRecord({"weights": Array(weights)}),
            "metrics": MetricRecord({"loss": loss, "num-examples": len(target)}),
        }
    )
    return Message(content, reply_to=message)


@app.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    """The mean squared error of the model as it came."""
    features, target = rows(context)
    loss = float(np.mean((features @ message.content["arrays"]["weights"].numpy() - target) ** 2))
    metrics = MetricRecord({"loss": loss, "num-examples": len(target)})
    return Message(RecordDict({"metrics": metrics}), reply_to=message)
