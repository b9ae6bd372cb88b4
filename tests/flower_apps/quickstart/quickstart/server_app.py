"""Federated averaging."""

import numpy as np
from flwr.app import Array, ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """From zeros, over two features and a constant."""
    FedAvg().start(
        grid, ArrayRecord({"weights": Array(np.zeros(3))}), num_rounds=context.run_config["num-server-rounds"]
    )
