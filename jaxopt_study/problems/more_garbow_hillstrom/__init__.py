"""The test problems of Moré, Garbow and Hillstrom, as residuals with their standard starts.

| file            | what                                                                    |
|-----------------|-------------------------------------------------------------------------|
| `collection`    | tables of all, `NONLINEAR_LEAST_SQUARES` and `OTHERS`; `start`          |
| `linear`        | linear functions of full rank, rank 1, and rank 1 with zeros            |
| `small_systems` | two to four variables without data: Rosenbrock, helical valley, …       |
| `fits`          | curve fits to measured data: Bard, Meyer, Osborne, …                    |
| `exponentials`  | exponentials with data by a formula: Box, Brown and Dennis, …           |
| `any_dimension` | as many variables as wanted: Watson, Chebyquad, penalties, …            |
| `equations`     | discretized equations, and banded systems                               |

`Problem.minima` are values of the objective, `½ Σ r²`; the paper prints `Σ r²`, and so do the
docstrings. Data are in the default float type at the time of the call.

Source: J. J. Moré, B. S. Garbow and K. E. Hillstrom, Testing unconstrained optimization software,
ACM Transactions on Mathematical Software 7, 1981; algorithm 566.
"""

from jaxopt_study.problems.more_garbow_hillstrom.collection import NONLINEAR_LEAST_SQUARES, OTHERS, start

__all__ = ["NONLINEAR_LEAST_SQUARES", "OTHERS", "start"]
