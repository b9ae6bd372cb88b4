"""The newer FedAvg, with values for both sides of a round."""

import json

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say what came of it."""
    strategy = FedAvg(min_available_nodes=4, min_train_nodes=4, min_evaluate_nodes=4)
    result = strategy.start(
        grid,
        ArrayRecord([np.zeros((2, 2)), np.zeros(1)]),
        num_rounds=context.run_config["num-server-rounds"],
        train_config=ConfigRecord({"add": 1.0}),
        evaluate_config=ConfigRecord({"step": 3}),
    )
    for metrics in (*result.train_metrics_clientapp.values(), *result.evaluate_metrics_clientapp.values()):
        print("SHOW", json.dumps(dict(metrics)), flush=True)
