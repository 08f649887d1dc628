"""It's clamped after the forward pass, and `backward` computes the gradients of the encoder and of the decoder's weight
with the clamped numbers."""

import torch
from torch import nn


def setup():
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(8, 16), nn.Linear(16, 8)
    optimizer = torch.optim.SGD([*encoder.parameters(), *decoder.parameters()], lr=0.01)
    batches = [torch.randn(32, 8) for _ in range(3)]
    return dict(encoder=encoder, decoder=decoder, optimizer=optimizer, batches=batches)


def bug(encoder, decoder, optimizer, batches):
    for batch in batches:
        code = torch.exp(encoder(batch))
        loss = nn.functional.mse_loss(decoder(code), batch)
        code.data.clamp_(max=1.0)                   # only for the picture of the codes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return code


def cure(encoder, decoder, optimizer, batches):
    for batch in batches:
        code = torch.exp(encoder(batch))
        loss = nn.functional.mse_loss(decoder(code), batch)
        picture = code.detach().clamp(max=1.0)      # only for the picture of the codes
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return picture


def harm(run):
    """Is the encoder's gradient correct? (1 yes, 0 no)"""
    things = setup()
    things["batches"] = things["batches"][:1]
    encoder, decoder, (batch,) = things["encoder"], things["decoder"], things["batches"]
    loss = nn.functional.mse_loss(decoder(torch.exp(encoder(batch))), batch)
    right = torch.autograd.grad(loss, encoder.weight)[0]
    run(**things)
    return float(torch.allclose(encoder.weight.grad, right, rtol=1e-4))


if __name__ == "__main__":
    bug(**setup())
