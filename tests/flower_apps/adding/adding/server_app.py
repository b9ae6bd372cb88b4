"""One of Flower's strategies by name, with its own defaults but for the nodes that it waits for."""

import json

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp import strategy as strategies

from adding.model import initial

STRATEGIES = {
    "fedavg": strategies.FedAvg,
    "fedavgm": strategies.FedAvgM,
    "fedadam": strategies.FedAdam,
    "fedyogi": strategies.FedYogi,
    "fedadagrad": strategies.FedAdagrad,
    "fedmedian": strategies.FedMedian,
    "fedtrimmedavg": strategies.FedTrimmedAvg,
    "krum": strategies.Krum,
}

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Train, and say what came of it."""
    name, nodes = context.run_config["strategy"], context.run_config["nodes"]
    options = {"num_malicious_nodes": 1} if name == "krum" else {}
    strategy = STRATEGIES[name](min_available_nodes=nodes, min_train_nodes=nodes, min_evaluate_nodes=nodes, **options)
    result = strategy.start(grid, initial(), num_rounds=context.run_config["num-server-rounds"])
    told = {
        "train": {str(round): dict(metrics) for round, metrics in result.train_metrics_clientapp.items()},
        "evaluate": {str(round): dict(metrics) for round, metrics in result.evaluate_metrics_clientapp.items()},
    }
    print("SHOW", json.dumps(told), flush=True)
