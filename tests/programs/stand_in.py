"""Stand-in data for public training programs, so that they run offline and in seconds.

`prepare` copies this file into the programs' environment, beside a `.pth` file that imports it when Python starts.
It replaces torchvision's data sets by random images of the same shapes, and seeds the generators of `random`, NumPy and
PyTorch for programs that don't, so that two runs can be compared. Nothing else of PyTorch is touched. `STAND_IN_SIZE` is
the number of training images (default 640).
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import os
import random
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


def _declare_operators() -> None:
    """Declare the operators that the CPU build of torchvision lacks; the programs never call them."""
    if _kept:
        return
    import torch

    library = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define(
        "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height,"
        " int pooled_width, int sampling_ratio, bool aligned) -> Tensor"
    )
    _kept.append(library)


_kept: list[Any] = []


def _replace_data_sets(datasets: ModuleType) -> None:
    """Put random images in the place of data sets that would be downloaded."""
    import torch
    from PIL import Image

    class Images(torch.utils.data.Dataset):
        """Random images with a class that can be learnt: its number sets the brightness of one row."""

        mode, size, classes = "L", (28, 28), 10

        def __init__(self, root: str = "", train: bool = True, transform: Any = None, **rest: Any):
            self.transform = train if callable(train) else transform  # ImageFolder(root, transform)
            self.target_transform = rest.get("target_transform")
            self.train = train if isinstance(train, bool) else True
            count = int(os.environ.get("STAND_IN_SIZE", "640"))
            n = count if self.train else max(1, count // 4)
            generator = torch.Generator().manual_seed(int(self.train))
            channels = () if self.mode == "L" else (3,)
            draw = torch.randint(0, 200, (n, *self.size, *channels), generator=generator)
            self.data = draw.to(torch.uint8)
            self.targets = torch.randint(0, self.classes, (n,), generator=generator)
            for image, target in zip(self.data, self.targets.tolist(), strict=True):
                image[target % self.size[0]] = 255
            if self.mode != "L":
                self.data, self.targets = self.data.numpy(), self.targets.tolist()

        def __len__(self) -> int:
            return len(self.data)

        def __getitem__(self, index: int) -> tuple[Any, Any]:
            pixels = self.data[index]
            image: Any = Image.fromarray(pixels.numpy() if self.mode == "L" else pixels)
            target = int(self.targets[index])
            if self.transform is not None:
                image = self.transform(image)
            if self.target_transform is not None:
                target = self.target_transform(target)
            return image, target

    def like(name: str, mode: str, size: tuple[int, int], classes: int) -> type:
        members = {"mode": mode, "size": size, "classes": classes}
        # Workers of another process find the class where a pickle looks for it.
        return type(name, (Images,), {**members, "__module__": "torchvision.datasets"})

    for name, mode, size, classes in (
        ("MNIST", "L", (28, 28), 10),
        ("FashionMNIST", "L", (28, 28), 10),
        ("CIFAR10", "RGB", (32, 32), 10),
        ("CIFAR100", "RGB", (32, 32), 100),
        ("ImageFolder", "RGB", (64, 64), 10),
        ("LSUN", "RGB", (64, 64), 1),
    ):
        setattr(datasets, name, like(name, mode, size, classes))


def _seed(numpy: ModuleType) -> None:
    numpy.random.seed(0)


def _seed_torch(torch: ModuleType) -> None:
    torch.manual_seed(0)


AFTER: dict[str, Callable[[ModuleType], None]] = {
    "numpy": _seed,
    "torch": _seed_torch,
    "torchvision.datasets": _replace_data_sets,
}


class _Watch(importlib.abc.MetaPathFinder):
    """Act just before `torchvision` is imported, and just after the modules in `AFTER` are."""

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        if name == "torchvision":
            _declare_operators()
        if name not in AFTER or name in self.busy:
            return None
        self.busy.add(name)
        spec = importlib.util.find_spec(name)
        self.busy.discard(name)
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            run(module)
            AFTER[name](module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec

    busy: set[str] = set()


random.seed(0)
sys.meta_path.insert(0, _Watch())
