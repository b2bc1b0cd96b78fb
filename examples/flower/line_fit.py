"""A Flower application that knows nothing of cosim: federated averaging of a small network."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

client_app, server_app = ClientApp(), ServerApp()


def network() -> torch.nn.Module:
    """Return the network every client trains."""
    return torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))


@client_app.train()
def train(message: Message, context: Context) -> Message:
    """Take local steps on the examples of this client."""
    model = network()
    model.load_state_dict(message.content["arrays"].to_torch_state_dict())
    generator = torch.Generator().manual_seed(int(context.node_config["partition-id"]))
    points = torch.randn(64, 16, generator=generator)
    targets = points.sum(dim=1, keepdim=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    for _ in range(int(context.run_config["local-steps"])):
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(points), targets)
        loss.backward()
        optimizer.step()
    metrics = MetricRecord({"train_loss": loss.item(), "num-examples": len(points)})
    return Message(
        RecordDict({"arrays": ArrayRecord(model.state_dict()), "metrics": metrics}), reply_to=message
    )


@server_app.main()
def main(grid: Grid, context: Context) -> None:
    """Average for a number of rounds."""
    strategy = FedAvg(fraction_evaluate=0.0, min_available_nodes=2)
    arrays = ArrayRecord(network().state_dict())
    strategy.start(grid=grid, initial_arrays=arrays, num_rounds=int(context.run_config["num-rounds"]))
