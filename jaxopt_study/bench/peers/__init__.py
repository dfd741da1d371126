"""Other people's solvers behind one signature, for the suites alone.

The only rooms that import them, and only when they are called: they are an optional extra.
"""

from jaxopt_study.bench.peers.batch import optimistix_batch, scipy_leastsq_spots
from jaxopt_study.bench.peers.curve_fits import lmfit_model, scipy_curve_fit
from jaxopt_study.bench.peers.installed import installed
from jaxopt_study.bench.peers.least_squares import (
    Ended,
    Peer,
    jaxopt_jitted,
    jaxopt_levenberg_marquardt,
    optimistix_jitted,
    optimistix_levenberg_marquardt,
    optimistix_to_the_end,
    scipy_jitted,
    scipy_levenberg_marquardt,
    scipy_to_the_end,
)
from jaxopt_study.bench.peers.logged import Log, optimistix_log, scipy_log
from jaxopt_study.bench.peers.minimizers import (
    Minimize,
    Minimized,
    optax_lbfgs,
    optax_lbfgs_to,
    optimistix_bfgs,
    scipy_minimize,
)
from jaxopt_study.bench.peers.odes import diffrax_step, torchdiffeq_step
from jaxopt_study.bench.peers.roots import optimistix_bisection, optimistix_root, scipy_brentq, scipy_root
from jaxopt_study.bench.peers.torch_steps import TorchStep, torch_step

__all__ = [
    "Ended",
    "Log",
    "Minimize",
    "Minimized",
    "Peer",
    "TorchStep",
    "diffrax_step",
    "installed",
    "jaxopt_jitted",
    "jaxopt_levenberg_marquardt",
    "lmfit_model",
    "optax_lbfgs",
    "optax_lbfgs_to",
    "optimistix_batch",
    "optimistix_bfgs",
    "optimistix_bisection",
    "optimistix_jitted",
    "optimistix_levenberg_marquardt",
    "optimistix_log",
    "optimistix_root",
    "optimistix_to_the_end",
    "scipy_brentq",
    "scipy_curve_fit",
    "scipy_jitted",
    "scipy_leastsq_spots",
    "scipy_levenberg_marquardt",
    "scipy_log",
    "scipy_minimize",
    "scipy_root",
    "scipy_to_the_end",
    "torch_step",
    "torchdiffeq_step",
]
