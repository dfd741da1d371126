"""Which rule each primitive has: what it does to the sets of inputs that every element depends on.

A rule takes the equation and what is known of its inputs, and returns the sets of its outputs, None for
what depends on nothing. Primitives that hold programs of their own (loops, calls) are in `propagate`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from jaxopt_study.sparsity import elementwise, move, places, unions, windows
from jaxopt_study.sparsity.index_sets import IndexSets
from jaxopt_study.sparsity.traced import Traced

Rule = Callable[[Any, list[Traced]], list[IndexSets | None]]

RULES: dict[str, Rule] = {
    **dict.fromkeys(
        # Linear ones come first; the others only where a value, not a derivative, is followed.
        [
            "add",
            "add_any",
            "sub",
            "neg",
            "div",
            "convert_element_type",
            "real",
            "imag",
            "complex",
            "conj",
            "reduce_precision",
            "copy",
            "copy_p",
            "max",
            "min",
            "pow",
            "integer_pow",
            "exp",
            "exp2",
            "log",
            "log1p",
            "expm1",
            "sin",
            "cos",
            "tan",
            "tanh",
            "sinh",
            "cosh",
            "asin",
            "acos",
            "atan",
            "asinh",
            "acosh",
            "atanh",
            "atan2",
            "sqrt",
            "rsqrt",
            "cbrt",
            "square",
            "abs",
            "logistic",
            "erf",
            "erfc",
            "erf_inv",
            "lgamma",
            "digamma",
            "rem",
            "nextafter",
            "clamp",
        ],
        elementwise.elementwise,
    ),
    "mul": elementwise.multiply,
    "select_n": elementwise.select,
    **dict.fromkeys(
        [
            "squeeze",
            "expand_dims",
            "device_put",
            "sharding_constraint",
            "optimization_barrier",
            "pvary",
        ],
        elementwise.same_elements,
    ),
    "broadcast_in_dim": partial(places.moved, move.broadcast),
    "reshape": partial(places.moved, move.reshape),
    "slice": partial(places.moved, move.cut),
    "transpose": partial(places.moved, lambda index, params: np.transpose(index, params["permutation"])),
    "rev": partial(places.moved, lambda index, params: np.flip(index, params["dimensions"])),
    "tile": partial(places.moved, lambda index, params: np.tile(index, params["reps"])),
    "concatenate": partial(places.join, lambda arrays, params: np.concatenate(arrays, params["dimension"])),
    "stack": partial(places.join, lambda arrays, params: np.stack(arrays, params["axis"])),
    "split": places.split,
    "unstack": places.unstack,
    "pad": places.pad,
    **dict.fromkeys(["reduce_sum", "reduce_max", "reduce_min", "reduce_prod"], unions.reduce),
    **dict.fromkeys(["cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"], unions.cumulate),
    "gather": places.gather,
    "dynamic_slice": places.dynamic_slice,
    **dict.fromkeys(["scatter", "scatter-add", "scatter-sub", "scatter-mul"], places.scatter),
    "dynamic_update_slice": places.dynamic_update_slice,
    "dot_general": unions.dot,
    "reduce_window_sum": windows.window,
    "select_and_gather_add": windows.window,
    "select_and_scatter_add": windows.unwindow,
    "conv_general_dilated": windows.convolve,
    "triangular_solve": partial(unions.last_axes, lambda params: 2),
    "cholesky": partial(unions.last_axes, lambda params: 2),
    "fft": partial(unions.last_axes, lambda params: len(params["fft_lengths"])),
}
