"""Differentiate, fit and optimise in JAX.

| to                                   | use                                                      |
|--------------------------------------|----------------------------------------------------------|
| minimize a function or a sum of squares | `minimize`, or `start`, `advance`, `finish` apart     |
| fit residuals                        | `least_squares`, on a `LeastSquares` or a function       |
| solve equations, find all roots      | `find_root`, `find_roots`, which returns `Roots`         |
| fit a model to data, with errors     | `curve_fit`, which returns a `Fit`                       |
| fit many small data sets in one call | `least_squares_batch`, `curve_fit_batch`                 |
| solve an ODE, with derivatives       | `solve_ode`, which returns a `Solution`                  |
| fit an ODE to time series            | `fit_ode`, which returns a `Fit`                         |
| know which of its gradients to trust | `audit_adjoint`, which returns an `AdjointAudit`         |
| choose an optimizer                  | `sgd`, `adagrad`, `rmsprop`, `adam`, `newton`,           |
|                                      | `lbfgs`, `gauss_newton`, `levenberg_marquardt`, `dogleg` |
| f, f', f'', ... of a scalar function | `derivatives`; of any function along a line, `taylor`    |
| combine optimizers                   | `chain`, `masked`; `optax.chain` works as well           |
| take Jacobians and Hessians, sparse ones too | `jacobian`, `hessian`, `hvp`, `hessian_diagonal`,  |
|                                      | `hessian_diagonal_estimate`, `per_example_grads`;        |
|                                      | `jacobian_coloring`, `hessian_coloring`: in how many passes |
| find out whether derivatives are right | `check_derivatives`, which returns a `Report`          |
| read how it ended                    | `Result`, `Status`                                       |

Rules without a learning rate (`scale_by_*`) and states are in `jaxopt_study.optimizers`; models
and test problems in `jaxopt_study.models` and `jaxopt_study.problems`; studies that run from a
file in `jaxopt_study.study`.
"""

from jaxopt_study.audit.check import check_derivatives
from jaxopt_study.audit.report import Report
from jaxopt_study.fit.batch import least_squares_batch
from jaxopt_study.fit.curve_fit import curve_fit
from jaxopt_study.fit.curve_fit_batch import curve_fit_batch
from jaxopt_study.fit.fit import Fit
from jaxopt_study.hessians import (
    hessian,
    hessian_coloring,
    hessian_diagonal,
    hessian_diagonal_estimate,
    hvp,
    per_example_grads,
)
from jaxopt_study.jacobians import jacobian, jacobian_coloring
from jaxopt_study.objectives import LeastSquares
from jaxopt_study.ode.audit import AdjointAudit, audit_adjoint
from jaxopt_study.ode.fit import fit_ode
from jaxopt_study.ode.solution import Solution
from jaxopt_study.ode.solve import solve_ode
from jaxopt_study.optimizers.adagrad import adagrad
from jaxopt_study.optimizers.adam import adam
from jaxopt_study.optimizers.combine import chain, masked
from jaxopt_study.optimizers.dogleg import dogleg
from jaxopt_study.optimizers.gauss_newton import gauss_newton
from jaxopt_study.optimizers.lbfgs import lbfgs
from jaxopt_study.optimizers.levenberg_marquardt import levenberg_marquardt
from jaxopt_study.optimizers.newton import newton
from jaxopt_study.optimizers.rmsprop import rmsprop
from jaxopt_study.optimizers.sgd import sgd
from jaxopt_study.result import Result, Status
from jaxopt_study.solvers.find_root import find_root
from jaxopt_study.solvers.find_roots import Roots, find_roots
from jaxopt_study.solvers.least_squares import least_squares
from jaxopt_study.solvers.minimize import advance, finish, minimize, start
from jaxopt_study.solvers.step import Carry
from jaxopt_study.towers import derivatives, taylor
from jaxopt_study.version import __version__

__all__ = [
    "AdjointAudit",
    "Carry",
    "Fit",
    "LeastSquares",
    "Report",
    "Result",
    "Roots",
    "Solution",
    "Status",
    "__version__",
    "adagrad",
    "adam",
    "advance",
    "audit_adjoint",
    "chain",
    "check_derivatives",
    "curve_fit",
    "curve_fit_batch",
    "derivatives",
    "dogleg",
    "find_root",
    "find_roots",
    "finish",
    "fit_ode",
    "gauss_newton",
    "hessian",
    "hessian_coloring",
    "hessian_diagonal",
    "hessian_diagonal_estimate",
    "hvp",
    "jacobian",
    "jacobian_coloring",
    "lbfgs",
    "least_squares",
    "least_squares_batch",
    "levenberg_marquardt",
    "masked",
    "minimize",
    "newton",
    "per_example_grads",
    "rmsprop",
    "sgd",
    "solve_ode",
    "start",
    "taylor",
]
