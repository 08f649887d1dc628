"""Train the reader: python train.py, and python train.py --resume last.pt to go on."""

import argparse
from pathlib import Path

import torch
from data import load
from model import Reader
from torch import nn

QUICK = 150  # images are enough for a quick check between epochs


@torch.no_grad()
def evaluate(model, digits, batch_size=64, quick=False):
    """Return the share of images that the model reads correctly."""
    model.eval()
    images, labels = digits.images, digits.labels
    if quick:
        some = torch.randperm(len(labels))[:QUICK]
        images, labels = images[some], labels[some]
    scores = torch.cat([model(part) for part in images.split(batch_size)])
    return (scores.argmax(dim=1) == labels).float().mean().item()


def train_epoch(model, optimizer, digits, batch_size):
    """Go through all training images once; return the mean loss."""
    model.train()
    losses = []
    for images, labels in digits.batches(batch_size):
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    return sum(losses) / len(losses)


def restore(path, optimizer):
    """Return the saved model and the epoch to go on with."""
    checkpoint = torch.load(path)
    model = Reader()
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    return model, checkpoint["epoch"]


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--lr", type=float, default=0.005)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--eval-batch-size", type=int, default=64)
    parser.add_argument("--validate-every", type=int, default=1)
    parser.add_argument("--resume", default="")
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args(arguments)

    torch.manual_seed(0)
    train, valid, test = load()
    model = Reader()
    optimizer = torch.optim.Adam(model.parameters(), lr=options.lr)
    start = 0
    if options.resume:
        model, start = restore(options.resume, optimizer)

    best, best_accuracy = None, 0.0
    for epoch in range(start + 1, start + 1 + options.epochs):
        loss = train_epoch(model, optimizer, train, options.batch_size)
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "epoch": epoch}, options.out / "last.pt")
        if epoch % options.validate_every == 0:
            accuracy = evaluate(model, valid, options.eval_batch_size, quick=True)
            print(f"epoch {epoch}: loss {loss:.3f}, validation {accuracy:.3f}")
            if accuracy > best_accuracy:
                best, best_accuracy = dict(model.state_dict()), accuracy

    if best is not None:
        model.load_state_dict(best)
    torch.save(model.state_dict(), options.out / "best.pt")
    for name, digits in {"validation": valid, "test": test}.items():
        print(f"best.pt, {name}: {evaluate(model, digits, options.eval_batch_size):.3f}")


if __name__ == "__main__":
    main()
