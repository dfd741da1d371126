"""Fits over eight devices and on one, in a process of its own; prints what it found as one line of JSON.

    python over_devices.py answers | more_answers | values | program | large
    python over_devices.py processes PORT PROCESS       one of two, four devices each

A process has as many host devices as XLA_FLAGS said when JAX began, so that tests cannot change it.
"""

import json
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import jaxopt_study as jos

START = {"a": np.array(1.0), "c": np.array(0.0), "k": np.array(1.0)}


def curve(p, x):
    return p["a"] * jnp.exp(-p["k"] * x) + p["c"]


def residual(p, x, y):
    return curve(p, x) - y


def with_prior(p, x, y):
    """Leaves of three shapes, one of which eight devices cannot share evenly."""
    pair = jnp.stack([x - 1.0, 0.1 * x * p["a"] - y], axis=1)
    return {"fit": residual(p, x, y), "pair": pair, "prior": 0.3 * jnp.stack([p["a"], p["c"], p["k"]])}


def one_column_twice(p, x, y):
    return (p["a"] + p["k"]) * x + p["c"] - y


def in_odd_units(p, x, y):
    """Columns of 10¹⁶ and 10⁻¹⁴: their squares are no numbers of float32."""
    return curve({"a": 1e16 * p["a"], "c": 1e-14 * p["c"], "k": p["k"]}, x) - y


def data(count, dtype="float64"):
    x = np.linspace(0.0, 4.0, count)
    noise = 0.05 * np.sin(1e4 * x) + 0.05 * np.random.default_rng(0).standard_normal(count)
    return x.astype(dtype), (3.0 * np.exp(-0.5 * x) + 0.2 + noise).astype(dtype)


def mesh(kind="auto"):
    if kind == "two axes":
        return jax.make_mesh((4, 2), ("host", "data"), axis_types=(AxisType.Auto,) * 2)
    return jax.make_mesh((8,), ("data",), axis_types=(getattr(AxisType, kind.title()),))


def laid_out(arrays, kind="auto"):
    axes = ("host", "data") if kind == "two axes" else "data"
    return tuple(jax.device_put(array, NamedSharding(mesh(kind), PartitionSpec(axes))) for array in arrays)


def answers():
    """The largest relative difference of any parameter, and the steps, of each kind of fit."""
    both = here_and_there()
    fits = {
        "levenberg_marquardt": lambda args: jos.least_squares(residual, START, args),
        "leaves": lambda args: jos.least_squares(with_prior, START, args),
        "singular": lambda args: jos.least_squares(one_column_twice, START, args),
    }
    found = {name: compared(fit, both) for name, fit in fits.items()}
    one = jos.least_squares(residual, START, both["one"])
    found["explicit"] = difference(
        one, jos.least_squares(residual, START, laid_out(both["host"], "explicit"))
    )
    single = {"devices": laid_out(data(8 * 500, "float32")), "one": data(8 * 500, "float32")}
    start = narrow(START)
    found["float32"] = compared(lambda args: jos.least_squares(residual, start, args), single)
    odd = narrow({"a": np.array(1e-16), "c": np.array(1e13), "k": np.array(1.0)})
    found["float32, odd units"] = compared(lambda args: jos.least_squares(in_odd_units, odd, args), single)
    return found


def narrow(tree):
    return jax.tree.map(lambda leaf: leaf.astype("float32"), tree)


def values():
    """What a step that leaves nothing leaves, and by how much one that changes little lowers the value."""
    both = here_and_there()
    exact = {**both, "devices": laid_out((both["host"][0], 2.0 * both["host"][0] + 1.0))}
    exact["one"] = tuple(map(jnp.asarray, jax.device_get(exact["devices"])))
    found = {}
    for where in ("one", "devices"):
        line = jos.least_squares(
            lambda p, x, y: p["a"] * x + p["c"] - y,
            {"a": 300.0, "c": 100.0},
            exact[where],
            optimizer=jos.gauss_newton(),
            max_steps=1,
            trace=True,
        )
        info = jos.least_squares(residual, START, both[where], max_steps=8).opt_state.info
        found[where] = {
            "left": (line.trace.value[1] / line.trace.value[0]).item(),
            "value": info.value.item(),
            "fall": info.actual.item(),
        }
    return found


def more_answers():
    """As `answers`, of what shares most of its code with those."""
    both = here_and_there()
    damped = jos.levenberg_marquardt
    fits = {
        "qr": lambda args: jos.least_squares(residual, START, args, optimizer=damped(solver="qr")),
        "cg": lambda args: jos.least_squares(residual, START, args, optimizer=damped(solver="cg")),
        "gauss_newton": lambda args: jos.least_squares(
            one_column_twice, START, args, optimizer=jos.gauss_newton()
        ),
        "pointwise": lambda args: jos.least_squares(
            jos.LeastSquares(two_leaves, pointwise=True), START, args
        ),
        "bounds": lambda args: jos.least_squares(residual, START, args, bounds=(None, {**START, "a": 2.5})),
        "cauchy": lambda args: jos.least_squares(residual, START, args, loss="cauchy", loss_scale=0.05),
        "adam": lambda args: jos.minimize(
            jos.LeastSquares(residual), START, jos.adam(0.1), args, max_steps=20
        ),
        "curve_fit": lambda args: jos.curve_fit(curve, args[0], args[1], START),
    }
    found = {name: compared(fit, both) for name, fit in fits.items()}
    one = jos.least_squares(residual, START, both["one"])
    found["two axes"] = difference(
        one, jos.least_squares(residual, START, laid_out(both["host"], "two axes"))
    )
    slope = jax.grad(lambda y, x: jos.least_squares(residual, START, (x, y)).params["k"])
    alone, spread = (np.asarray(slope(args[1], args[0])) for args in (both["one"], both["devices"]))
    found["gradient"] = {
        "worst": float(np.max(np.abs(alone - spread)) / np.max(np.abs(alone))),
        "steps": [1, 1],
    }
    return found


def here_and_there():
    host = data(8 * 500)
    return {"host": host, "devices": laid_out(host), "one": tuple(map(jnp.asarray, host))}


def two_leaves(p, x, y):
    return residual(p, x, y), jnp.stack([x - 1.0, 0.1 * x * p["a"] - y], axis=1)


def compared(fit, both):
    return difference(fit(both["one"]), fit(both["devices"]))


def difference(one, other):
    pairs = zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True)
    worst = max(abs(float(a) - float(b)) / max(abs(float(a)), 1e-3) for a, b in pairs)
    return {"worst": worst, "steps": [int(one.num_steps), int(other.num_steps)]}


def program(count=8 * 1000):
    """The collectives of a whole minimization, by the computation of the program that they stand in."""
    found = {}
    for dtype, start in {"float64": START, "float32": narrow(START)}.items():
        args = laid_out(data(count, dtype))
        lowered = jax.jit(jos.least_squares, static_argnums=0).lower(
            jos.LeastSquares(residual, sharding=args[0].sharding), start, args
        )
        found[dtype] = collectives(lowered.compile().as_text())
    return found


def collectives(text):
    """Each collective operation: its name, its elements, and the computation around it."""
    kinds = "all-reduce|all-gather|all-to-all|collective-permute|collective-broadcast|reduce-scatter"
    found, inside = [], ""
    branches = set(re.findall(r"[\w.\-]+", " ".join(re.findall(r"branch_computations={([^}]*)}", text))))
    branches |= set(re.findall(r"(?:true|false)_computation=%?([\w.\-]+)", text))
    for line in text.splitlines():
        opened = re.match(r"(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        if opened:
            inside = opened[1]
        operation = re.search(rf"= (.*?) ({kinds})(?:-start)?\(", line)
        if operation:
            shapes = re.findall(r"\w+\[([\d,]*)\]", operation[1])
            sizes = [int(np.prod([int(n) for n in shape.split(",") if n])) for shape in shapes]
            size, branch = sum(sizes), inside in branches
            found.append({"kind": operation[2], "elements": size, "inside": inside, "branch": branch})
    return found


def large():
    """Ten million residuals: the answers, and what a device holds."""
    here = data(10**7)
    args = laid_out(here)
    held = [array.addressable_shards[3].data.nbytes / array.nbytes for array in args]
    return {**compared(lambda a: jos.least_squares(residual, START, a), {"devices": args, "one": here})} | {
        "held": held,
        "devices": len(args[0].sharding.device_set),
    }


def processes():
    """A fit in which each of two processes made its own half of the data."""
    port, process = sys.argv[2:]
    jax.distributed.initialize(f"127.0.0.1:{port}", num_processes=2, process_id=int(process))
    whole = data(8 * 500)
    half = slice(int(process) * 2000, (int(process) + 1) * 2000)
    rows = NamedSharding(mesh(), PartitionSpec("data"))
    args = tuple(jax.make_array_from_process_local_data(rows, array[half]) for array in whole)
    result = jos.least_squares(jos.LeastSquares(residual, pointwise=True), START, args)
    params = {name: float(np.asarray(leaf)) for name, leaf in result.params.items()}
    return {"params": params, "steps": int(result.num_steps), "devices": jax.device_count()}


if __name__ == "__main__":
    jax.config.update("jax_enable_x64", True)  # not on import, which collecting doctests does
    print(json.dumps(globals()[sys.argv[1]]()), flush=True)
