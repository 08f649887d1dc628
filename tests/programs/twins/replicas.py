"""pytorch-104336 and x-jxmnop: two replicas drift apart, because their gradients are not averaged.

This process is rank 0 and starts rank 1. `converted`: the weights are converted after
DistributedDataParallel has attached its hooks to them (on a GPU: `.cpu()` and back). `unwrapped`:
every second step runs the model instead of its wrapper. `fixed` may follow.
"""

import os
import subprocess
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

KIND, FIXED = sys.argv[1], "fixed" in sys.argv
rank = int(os.environ.get("TWIN_RANK", "0"))
other = None
if rank == 0:
    environment = {**os.environ, "TWIN_RANK": "1"}
    other = subprocess.Popen([sys.executable, __file__, *sys.argv[1:]], env=environment)
place = os.path.join(os.getcwd(), "rendezvous")
dist.init_process_group("gloo", init_method=f"file://{place}", rank=rank, world_size=2)

torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4))
if KIND == "converted" and FIXED:
    model.double()
    model.float()
replica = DistributedDataParallel(model)
if KIND == "converted" and not FIXED:
    replica.double()
    replica.float()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
torch.manual_seed(rank)
for step in range(8):
    inputs, targets = torch.randn(16, 8), torch.randint(0, 4, (16,))
    unwrapped = KIND == "unwrapped" and not FIXED and step % 2 == 0
    network = model if unwrapped else replica
    optimizer.zero_grad()
    outputs = network(inputs)
    loss = nn.functional.cross_entropy(outputs, targets)
    loss.backward()
    optimizer.step()

weights = nn.utils.parameters_to_vector(model.parameters()).detach()
everyone = [torch.empty_like(weights) for _ in range(2)]
dist.all_gather(everyone, weights)
if rank == 0:
    print(f"the replicas differ by {(everyone[0] - everyone[1]).abs().max():.3f}")
dist.destroy_process_group()
if other is not None:
    other.wait()
