"""Train a small network of timm with its optimizer, schedule and moving average, as its train script does."""

import timm
import torch
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3

if __name__ == "__main__":
    torch.manual_seed(0)
    model = timm.create_model("resnet10t", pretrained=False, num_classes=4)
    average = ModelEmaV3(model, decay=0.9)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    schedule, epochs = create_scheduler_v2(optimizer, sched="cosine", num_epochs=2, warmup_epochs=1)
    images, labels = torch.randn(16, 3, 32, 32), torch.randint(0, 4, (16,))
    criterion = torch.nn.CrossEntropyLoss()
    updates = 0
    for epoch in range(epochs):
        model.train()
        for x, y in zip(images.split(4), labels.split(4), strict=True):
            loss = criterion(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            updates += 1
            average.update(model, step=updates)
        average.module.eval()
        with torch.no_grad():
            kept = criterion(average.module(images), labels)
        print(f"epoch {epoch}: {loss.item():.5f} {kept.item():.5f}")
        schedule.step(epoch + 1, kept)
