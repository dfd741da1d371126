"""Unconstrained problems in the manner of the CUTEst collection: scalar objectives and their usual starts.

| file            | what                                                                             |
|-----------------|----------------------------------------------------------------------------------|
| `collection`    | tables of all, `SMALL` and `ANY_DIMENSION`                                       |
| `small`         | two to four variables: cliffs, valleys, many minima, singular Hessians           |
| `any_dimension` | chains and arrows of as many variables as wanted                                 |

`Problem.minima` holds the lowest value where it is known in closed form. The formulas are written
here anew from what the literature says of them; they are in the manner of the collection, not the
collection: a few constants differ between its editions.

Sources: N. I. M. Gould, D. Orban and Ph. L. Toint, CUTEst, 2015; N. Andrei, An unconstrained optimization
test functions collection, 2008.
"""

from jaxopt_study.problems.unconstrained.collection import ANY_DIMENSION, SMALL

__all__ = ["ANY_DIMENSION", "SMALL"]
