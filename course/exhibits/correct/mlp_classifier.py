"""An image classifier: a multilayer perceptron, evaluated after every epoch."""

import torch
from torch import nn


def accuracy(model, images, labels):
    model.eval()
    with torch.no_grad():
        return (model(images).argmax(1) == labels).float().mean().item()


def main():
    torch.manual_seed(0)
    images, labels = torch.randn(256, 1, 8, 8), torch.randint(0, 10, (256,))
    train = torch.utils.data.TensorDataset(images[:192], labels[:192])
    loader = torch.utils.data.DataLoader(train, batch_size=32, shuffle=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 10))
    criterion = nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for epoch in range(2):
        model.train()
        running_loss = 0.0
        for image, label in loader:
            optimizer.zero_grad()
            loss = criterion(model(image), label)
            loss.backward()
            optimizer.step()
            running_loss += loss.item()
        score = accuracy(model, images[192:], labels[192:])
        print(f"epoch {epoch}: loss {running_loss / len(loader):.3f}, accuracy {score:.3f}")


if __name__ == "__main__":
    main()
