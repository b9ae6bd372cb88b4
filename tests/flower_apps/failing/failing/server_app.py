"""FedAvg; what is told are the metrics of those that did not fail."""

import json

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say the metrics of evaluation."""
    strategy = FedAvg(min_available_nodes=4, min_train_nodes=4, min_evaluate_nodes=4)
    result = strategy.start(
        grid, ArrayRecord({"w": Array(np.zeros(2))}), num_rounds=context.run_config["num-server-rounds"]
    )
    told = [dict(metrics) for metrics in result.evaluate_metrics_clientapp.values()]
    print("SHOW", json.dumps(told), flush=True)
