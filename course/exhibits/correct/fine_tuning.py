"""Fine-tuning: the backbone is frozen, its BatchNorm in evaluation mode; only the new head is trained."""

import copy

import torch
from torch import nn


def main():
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model = nn.Sequential(backbone, nn.Linear(8, 10))
    model.load_state_dict(copy.deepcopy(model.state_dict()))          # stands for a download
    for parameter in model[0].parameters():
        parameter.requires_grad = False
    model[1] = nn.Linear(8, 3)
    optimizer = torch.optim.SGD(model[1].parameters(), lr=0.01, momentum=0.9)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.1)
    phases = {phase: [(torch.randn(16, 1, 8, 8), torch.randint(0, 3, (16,))) for _ in range(2)]
              for phase in ("train", "val")}
    best, best_accuracy = copy.deepcopy(model.state_dict()), 0.0
    for epoch in range(3):
        for phase, batches in phases.items():
            model.train(phase == "train")
            model[0].eval()
            correct = 0
            for image, label in batches:
                optimizer.zero_grad()
                with torch.set_grad_enabled(phase == "train"):
                    output = model(image)
                    loss = nn.functional.cross_entropy(output, label)
                    if phase == "train":
                        loss.backward()
                        optimizer.step()
                correct += (output.argmax(1) == label).sum().item()
            if phase == "train":
                scheduler.step()
            elif correct / 32 > best_accuracy:
                best, best_accuracy = copy.deepcopy(model.state_dict()), correct / 32
    model.load_state_dict(best)
    print(f"best accuracy {best_accuracy:.3f}")


if __name__ == "__main__":
    main()
