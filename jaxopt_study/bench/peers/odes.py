"""Other people's ODE solvers, on the training step of the spiral: diffrax by hand, and torchdiffeq."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def diffrax_step(field: Any, rtol: float, atol: float) -> Callable[..., Any]:
    """The loop as one writes it with diffrax, its default adjoint: value and gradient of the mean |error|."""
    import diffrax

    def loss(params: Any, ts: Any, seen: Any) -> Any:
        made = diffrax.diffeqsolve(
            diffrax.ODETerm(field),
            diffrax.Tsit5(),
            ts[0],
            ts[-1],
            None,
            seen[0],
            params,
            saveat=diffrax.SaveAt(ts=ts),
            stepsize_controller=diffrax.PIDController(rtol=rtol, atol=atol),
        )
        return jnp.mean(jnp.abs(made.ys - seen))

    return jax.jit(jax.value_and_grad(loss))


def torchdiffeq_step(adjoint: bool, problem: Any, rtol: float, atol: float) -> Callable[[], Any]:
    """torchdiffeq's `odeint_adjoint` or `odeint` on the same network: its layers as torch holds them."""
    import torch
    import torchdiffeq

    torch.set_num_threads(1)  # more are slower at this size, and spin while others have their turn
    params, ts, seen = problem
    dtype = {"float32": torch.float32, "float64": torch.float64}[str(np.asarray(ts).dtype)]
    first, second = params
    layers: Any = torch.nn.Sequential(
        torch.nn.Linear(2, first["b"].size), torch.nn.Tanh(), torch.nn.Linear(first["b"].size, 2)
    )
    layers = layers.to(dtype)
    with torch.no_grad():
        for layer, given in ((layers[0], first), (layers[2], second)):
            layer.weight.copy_(torch.tensor(np.asarray(given["w"]).T))
            layer.bias.copy_(torch.tensor(np.asarray(given["b"])))

    class Field(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = layers

        def forward(self, t: Any, y: Any) -> Any:
            del t
            return self.net(y**3)

    func = Field()
    times, states = torch.tensor(np.asarray(ts)), torch.tensor(np.asarray(seen))
    solve = torchdiffeq.odeint_adjoint if adjoint else torchdiffeq.odeint

    def step() -> Any:
        func.zero_grad()
        loss = torch.mean(torch.abs(solve(func, states[0], times, rtol=rtol, atol=atol) - states))
        loss.backward()
        grads = [
            {"w": layer.weight.grad.numpy().T.copy(), "b": layer.bias.grad.numpy().copy()}
            for layer in (layers[0], layers[2])
        ]
        return loss.item(), grads

    return step
