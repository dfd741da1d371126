"""A step of PyTorch's optimizers."""

from collections.abc import Callable
from typing import Any

import numpy as np


class TorchStep:
    """One step in place, of parameters whose gradient is there already."""

    def __init__(self, make: Callable[[], tuple[Any, Any]]) -> None:
        self._make = make
        self._optimizer, self._params = make()

    def __call__(self) -> np.ndarray:
        """Take a step; the parameters after it."""
        self._optimizer.step()
        return self._params.detach().numpy()

    def fresh(self) -> np.ndarray:
        """The parameters after the first step from the start."""
        optimizer, params = self._make()
        optimizer.step()
        return params.detach().numpy()


def torch_step(
    name: str, options: dict[str, Any], params: np.ndarray, grads: np.ndarray, fused: bool
) -> TorchStep | None:
    """`torch.optim.<name>(**options).step()`, fused or not; None where there is no fused form on the CPU."""
    import torch

    def make() -> tuple[Any, Any]:
        tensor = torch.nn.Parameter(torch.tensor(params))
        tensor.grad = torch.tensor(grads)
        return getattr(torch.optim, name)([tensor], **options, **({"fused": True} if fused else {})), tensor

    try:
        return TorchStep(make)
    except (TypeError, RuntimeError):
        return None
