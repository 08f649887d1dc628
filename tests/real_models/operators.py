"""Import torchvision where its build doesn't fit PyTorch's: its operators are then only declared."""

from __future__ import annotations

import sys
from typing import Any

import torch

_kept: list[Any] = []


def ready() -> None:
    """Make ``import torchvision`` work; its pure Python models need no operators of its own."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define(
            "roi_align(Tensor input, Tensor rois, float spatial_scale, int pooled_height,"
            " int pooled_width, int sampling_ratio, bool aligned) -> Tensor"
        )
        _kept.append(library)
