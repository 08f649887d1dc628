"""Learn an initialisation through unrolled inner steps with higher (MAML on sine waves)."""

import higher
import torch
from torch import nn

if __name__ == "__main__":
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 1))
    outer = torch.optim.Adam(model.parameters(), lr=1e-2)
    inner = torch.optim.SGD(model.parameters(), lr=0.1)
    for iteration in range(6):
        outer.zero_grad()
        total = 0.0
        for _ in range(3):
            phase = torch.rand(()) * 3
            x, query = torch.randn(10, 1), torch.randn(10, 1)
            with higher.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, step):
                for _ in range(2):
                    step.step(nn.functional.mse_loss(fast(x), torch.sin(x + phase)))
                loss = nn.functional.mse_loss(fast(query), torch.sin(query + phase))
                loss.backward()
            total += loss.item()
        outer.step()
        print(f"{iteration}: {total / 3:.6f}")
