"""FedAvg of a model that nobody changes; what is told are the counts."""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say the mean of the counts."""
    nodes = context.run_config["nodes"]
    strategy = FedAvg(min_available_nodes=nodes, min_train_nodes=nodes, min_evaluate_nodes=nodes)
    result = strategy.start(
        grid, ArrayRecord({"w": Array(np.zeros(2))}), num_rounds=context.run_config["num-server-rounds"]
    )
    told = {
        "train": [metrics["calls"] for metrics in result.train_metrics_clientapp.values()],
        "evaluate": [metrics["calls"] for metrics in result.evaluate_metrics_clientapp.values()],
    }
    print("SHOW", json.dumps(told), flush=True)
