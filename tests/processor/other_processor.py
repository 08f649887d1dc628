"""Round as another processor might, to find stored outputs that depend on a rounding.

Processors agree on one addition and on one product. They disagree on a sum of many terms, since
each adds in its own order, and on approximations such as ``exp``. This stand-in changes the last
three bits of such results. The change is a function of the result alone, so computations that are
equal bit for bit stay equal. A result with a short mantissa (zero, small integers, powers of two)
is exact on every processor and keeps its bits. A number that is zero only on paper changes, and so
does what depends on it. With two bits, a bias stayed in place that a real processor had moved.

``tools/checks.py`` runs all complete notebooks under it. Import the file from a folder of
libraries; from anywhere else the ledger would record its lines.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# Names of operations without their overload: what adds many terms, and what approximates.
ROUNDED = frozenset(
    """
    mm addmm bmm baddbmm mv addmv dot vdot convolution convolution_backward
    mkldnn_rnn_layer mkldnn_rnn_layer_backward
    _scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention_for_cpu_backward
    sum mean var std var_mean cumsum logsumexp linalg_vector_norm _foreach_norm
    native_batch_norm _native_batch_norm_legit native_batch_norm_backward
    native_layer_norm native_layer_norm_backward native_group_norm native_group_norm_backward
    _softmax _softmax_backward_data _log_softmax _log_softmax_backward_data
    exp log tanh sigmoid sin cos erf gelu silu softplus
    nll_loss_forward mse_loss binary_cross_entropy randn normal_
    """.split()
)
_INTEGERS = {torch.float32: np.int32, torch.float64: np.int64}


class OtherProcessor(TorchDispatchMode):
    """Change the last bits of results that processors round differently.

    Example:
        >>> x = torch.linspace(0.0, 1.0, 100)
        >>> with OtherProcessor():
        ...     one, two = x @ x, x @ x
        >>> bool(one == two), bool(one == x @ x)
        (True, False)
    """

    @classmethod
    def ignore_compile_internals(cls) -> bool:
        """Let ``torch.compile`` compile: it skips every function under a mode that says False."""
        return True

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.__name__.partition(".")[0] in ROUNDED:
            for tensor in out if isinstance(out, (tuple, list)) else (out,):
                _round(tensor)
        return out


def _round(tensor: Any) -> None:
    """Change the last three bits of each number, in NumPy: PyTorch's profiler counts its own memory."""
    if type(tensor) not in (torch.Tensor, torch.nn.Parameter):
        return  # a tensor without numbers, such as the compiler's
    if tensor.dtype in _INTEGERS and tensor.device.type == "cpu" and tensor.layout == torch.strided:
        bits = tensor.detach().numpy().view(_INTEGERS[tensor.dtype])
        bits ^= (bits >> 3 ^ bits >> 5 ^ bits >> 8) & 7


def switch_on() -> None:
    """Round differently from here to the end of the process."""
    OtherProcessor().__enter__()
