"""Fifty functions whose derivatives are right, with arguments; kinks are not at them."""

import jax
import jax.numpy as jnp
import numpy as np


def normal(*shape, seed=0, scale=1.0):
    return jnp.asarray(scale * np.random.default_rng(seed).normal(size=shape), dtype())


def positive(*shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).uniform(0.3, 2.0, shape), dtype())


def dtype():
    return jnp.result_type(float)


@jax.custom_jvp
def softplus(x):
    return jnp.logaddexp(x, 0.0)


softplus.defjvps(lambda t, out, x: t * jax.nn.sigmoid(x))


@jax.custom_vjp
def scaled_sine(x, a):
    return a * jnp.sin(x)


scaled_sine.defvjp(
    lambda x, a: (a * jnp.sin(x), (x, a)),
    lambda saved, g: (g * saved[1] * jnp.cos(saved[0]), jnp.sum(g * jnp.sin(saved[0]))),
)


def scanned(x, w):
    return jax.lax.scan(lambda c, a: (jnp.tanh(w * c + a), c), jnp.zeros_like(w), x)


def newton_root(a):
    return jax.lax.fori_loop(0, 8, lambda i, x: 0.5 * (x + a / x), jnp.ones_like(a))


def while_power(x):
    return jax.lax.while_loop(lambda c: c[0] < 4, lambda c: (c[0] + 1, c[1] * x), (0, x))[1]


def mlp(params, x):
    for w, b in params[:-1]:
        x = jnp.tanh(x @ w + b)
    w, b = params[-1]
    return x @ w + b


def relu_network(params, x):
    return jax.nn.relu(x @ params["w"] + params["b"]) @ params["v"]


def conv(image, kernel):
    return jax.lax.conv(image[None, None], kernel[None, None], (1, 1), "SAME")[0, 0]


def python_branch(x):
    return x**2 if x > 0 else -x


def attention(q, k, v):
    return jax.nn.softmax(q @ k.T / jnp.sqrt(jnp.asarray(q.shape[-1], q.dtype))) @ v


def cholesky(a):
    return jnp.linalg.cholesky(a @ a.T + 3 * jnp.eye(len(a), dtype=a.dtype))


def solve(a, b):
    return jnp.linalg.solve(a + 4 * jnp.eye(len(a), dtype=a.dtype), b)


def rosenbrock(x):
    return jnp.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


def lennard_jones(x):
    d = jnp.sum((x[:, None] - x[None]) ** 2, -1) + jnp.eye(len(x), dtype=x.dtype)
    return jnp.sum(jnp.triu(d**-6 - d**-3, 1))


def cross_entropy(logits, labels):
    return -jnp.mean(jax.nn.log_softmax(logits)[jnp.arange(len(labels)), labels])


def lorenz_step(y, p):
    return y + 0.01 * jnp.stack(
        [p[0] * (y[1] - y[0]), y[0] * (p[1] - y[2]) - y[1], y[0] * y[1] - p[2] * y[2]]
    )


def pendulum(state):
    def step(s, _):
        return s + 0.05 * jnp.stack([s[1], -jnp.sin(s[0])]), s

    return jax.lax.scan(step, state, None, 10)[1]


def layers(seed=0):
    return [(normal(3, 4, seed=seed), normal(4, seed=1)), (normal(4, 2, seed=2), normal(2, seed=3))]


def right():
    """`{name: (fn, args)}` in the default dtype."""
    relu_params = {"w": normal(3, 5), "b": normal(5, seed=1), "v": normal(5, seed=2)}
    return {
        "identity": (lambda x: x, (normal(3),)),
        "constant beside": (lambda x, y: x * 2, (normal(3), normal(2))),
        "square": (jnp.square, (normal(3),)),
        "cube of one": (lambda x: x**3, (1.5,)),
        "exp": (jnp.exp, (normal(3),)),
        "log": (jnp.log, (positive(4),)),
        "log1p": (jnp.log1p, (positive(3),)),
        "expm1": (jnp.expm1, (normal(3, scale=0.01),)),
        "sine": (jnp.sin, (normal(5),)),
        "tangent": (jnp.tan, (normal(3, scale=0.4),)),
        "tanh": (jnp.tanh, (normal(5),)),
        "arctan": (jnp.arctan, (normal(3),)),
        "arctan2": (jnp.arctan2, (normal(3), normal(3, seed=1))),
        "arcsine": (jnp.arcsin, (normal(3, scale=0.3),)),
        "square root": (jnp.sqrt, (positive(3),)),
        "cube root": (jnp.cbrt, (positive(3),)),
        "power": (lambda x, p: x**p, (positive(3), positive(3, seed=1))),
        "ratio": (lambda x, y: x / y, (normal(3), positive(3))),
        "lgamma": (jax.lax.lgamma, (positive(3),)),
        "erf": (jax.lax.erf, (normal(3),)),
        "bessel": (jax.scipy.special.i0e, (positive(3),)),
        "sigmoid": (jax.nn.sigmoid, (normal(4),)),
        "softplus by rule": (softplus, (normal(4),)),
        "sine by backward rule": (scaled_sine, (normal(4), 1.3)),
        "gelu": (jax.nn.gelu, (normal(4),)),
        "silu": (jax.nn.silu, (normal(4),)),
        "softmax": (jax.nn.softmax, (normal(5),)),
        "logsumexp": (jax.nn.logsumexp, (normal(5),)),
        "relu": (jax.nn.relu, (normal(6),)),
        "absolute": (jnp.abs, (normal(6),)),
        "maximum": (jnp.max, (normal(6),)),
        "norm": (jnp.linalg.norm, (normal(4),)),
        "sort": (jnp.sort, (normal(6),)),
        "cumulative": (lambda x: jnp.cumprod(x) + jnp.cumsum(x), (normal(5),)),
        "where": (lambda x: jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1.0)), x**2), (normal(5),)),
        "matrix product": (lambda a, b: a @ b, (normal(2, 3), normal(3, 2, seed=1))),
        "network": (mlp, (layers(), normal(5, 3, seed=4))),
        "relu network": (relu_network, (relu_params, normal(20, 3, seed=5))),
        "attention": (attention, (normal(3, 2), normal(4, 2, seed=1), normal(4, 2, seed=2))),
        "convolution": (conv, (normal(5, 5), normal(3, 3, seed=1))),
        "scan": (scanned, (normal(6), jnp.asarray(0.7, dtype()))),
        "loop": (newton_root, (positive(3),)),
        "while": (while_power, (jnp.asarray(1.1, dtype()),)),
        "python branch": (python_branch, (jnp.asarray(0.8, dtype()),)),
        "inverse": (solve, (normal(3, 3), normal(3, seed=1))),
        "cholesky": (cholesky, (normal(3, 3),)),
        "determinant": (lambda a: jnp.linalg.slogdet(a)[1], (normal(3, 3),)),
        "spectrum": (lambda x: jnp.fft.fft(x), (normal(6),)),
        "rosenbrock": (rosenbrock, (normal(5),)),
        "molecule": (lennard_jones, (normal(4, 3, scale=1.5),)),
        "cross entropy": (cross_entropy, (normal(4, 3), jnp.array([0, 2, 1, 1]))),
        "lorenz": (lorenz_step, (normal(3), jnp.asarray([10.0, 28.0, 8 / 3], dtype()))),
        "pendulum": (pendulum, (normal(2),)),
        "checkpointed": (jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), (normal(3),)),
        "many elements": (lambda x: jnp.sum(jnp.tanh(x) ** 2), (normal(500),)),
        "many outputs": (lambda x: jnp.outer(jnp.sin(x), x), (normal(30),)),
        "cancelling": (lambda x: (x + 1000.0) - 1000.0 + x**2, (normal(3),)),
        "tiny": (lambda x: 1e-12 * jnp.sin(x), (normal(3),)),
        "small argument": (lambda x: jnp.cos(x) + x, (normal(3, scale=1e-6),)),
        "mixed scales": (lambda p: p["k"] * jnp.exp(-p["e"] / 300.0), ({"k": 1e10, "e": 2e3},)),
    }
