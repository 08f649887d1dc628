"""A word-level language model: the LSTM's state is carried from chunk to chunk and detached in between."""

import torch
from torch import nn


class RNNModel(nn.Module):
    def __init__(self, words, size):
        super().__init__()
        self.drop = nn.Dropout(0.2)
        self.encoder = nn.Embedding(words, size)
        self.rnn = nn.LSTM(size, size, 2, dropout=0.2)
        self.decoder = nn.Linear(size, words)
        self.decoder.weight = self.encoder.weight            # tied

    def forward(self, tokens, hidden):
        output, hidden = self.rnn(self.drop(self.encoder(tokens)), hidden)
        return self.decoder(self.drop(output)).flatten(0, 1), hidden

    def init_hidden(self, batch):
        return torch.zeros(2, batch, 16), torch.zeros(2, batch, 16)


def repackage(hidden):
    return tuple(state.detach() for state in hidden)


def evaluate(model, source, criterion):
    model.eval()
    total, hidden = 0.0, model.init_hidden(4)
    with torch.no_grad():
        for start in range(0, len(source) - 6, 5):
            output, hidden = model(source[start:start + 5], hidden)
            total += criterion(output, source[start + 1:start + 6].flatten()).item()
    return total


def main():
    torch.manual_seed(0)
    text = torch.randint(0, 20, (31, 4))
    model, criterion = RNNModel(20, 16), nn.CrossEntropyLoss()
    lr, best = 2.0, None
    for epoch in range(2):
        model.train()
        hidden = model.init_hidden(4)
        for start in range(0, 25, 5):
            model.zero_grad()
            hidden = repackage(hidden)
            output, hidden = model(text[start:start + 5], hidden)
            loss = criterion(output, text[start + 1:start + 6].flatten())
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.25)
            for weight in model.parameters():                # a hand-written step, no optimizer
                weight.data.add_(weight.grad, alpha=-lr)
        validation = evaluate(model, text, criterion)
        if best is None or validation < best:
            best = validation
        else:
            lr /= 4.0
    print(f"loss {loss.item():.3f}, best {best:.3f}")


if __name__ == "__main__":
    main()
