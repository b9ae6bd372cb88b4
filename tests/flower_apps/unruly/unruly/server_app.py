"""FedAvg over whoever answers."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Training, no evaluation."""
    if context.run_config["fault"] == "probe":
        raise RuntimeError("the server half fails by itself")
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=4, min_train_nodes=4)
    strategy.start(grid, ArrayRecord({"w": Array(np.zeros(3))}), num_rounds=context.run_config["num-server-rounds"])
    if context.run_config["fault"] == "server":
        raise RuntimeError("the server half fails by itself")
