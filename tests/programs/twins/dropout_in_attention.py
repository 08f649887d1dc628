"""transformers-33844: the attention's dropout ignores evaluation mode."""

import sys

import torch
from torch import nn

FIXED = "fixed" in sys.argv


class Attention(nn.Module):
    """Self-attention whose kernel takes the probability as an argument, as flash attention does."""

    def __init__(self, width: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.project = nn.Linear(width, 3 * width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = self.project(x).chunk(3, dim=-1)
        p = self.dropout if self.training or not FIXED else 0.0
        return nn.functional.scaled_dot_product_attention(q, k, v, dropout_p=p)


torch.manual_seed(0)
x, y = torch.randn(32, 5, 8), torch.randint(0, 4, (32,))
body, head = Attention(8, 0.3), nn.Linear(8, 4)
model = nn.Sequential(body, head)
optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
for _epoch in range(3):
    model.train()
    for inputs, targets in zip(x.split(8), y.split(8), strict=True):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(inputs).mean(dim=1), targets)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        first = model(x)
        second = model(x)
print(f"two evaluations differ by {(first - second).abs().max():.3f}")
