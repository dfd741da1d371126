"""The series of a function of which only the derivative is known, and which may be part of its derivative.

y' = G(u, u') is integrated. Where G contains y itself (a Cholesky factor, a Bessel function, a rule that a
person wrote in terms of its function), or functions whose derivatives contain y, all of them are found
together: put in a y that is right to order k, and one that is right to order k + 1 comes out.
"""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import Array, lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal

from jaxopt_study.series.dependence import can_vary
from jaxopt_study.series.fallback import bind
from jaxopt_study.series.series import (
    Pending,
    Series,
    coefficients,
    constant,
    differentiate,
    integrate,
    primal,
)


class Unknown:
    """The results of an equation of which the derivative is known.

    Attributes:
      key: its number.
      order: of the series that are wanted.
      first: the results at t = 0.
      floats: the positions of the results that have a series.
      companions: what has to be found together with it.
    """

    def __init__(
        self,
        expansion: Any,
        key: int,
        eqn: JaxprEqn,
        values: Sequence[Any],
        order: int,
        moving: Sequence[int],
        slope: ClosedJaxpr,
    ) -> None:
        self.expansion, self.key, self.order, self.slope = expansion, key, order, slope
        self.companions: list[Unknown] = []
        self.first = [jnp.asarray(y) for y in bind(eqn, [primal(value) for value in values])]
        self.floats = [i for i, var in enumerate(eqn.outvars) if can_vary(var)]
        # Of one order less from here on.
        self._operands = [
            value.truncate(order - 1) if isinstance(value, Series) else value
            for value, atom in zip(values, eqn.invars, strict=True)
            if not isinstance(atom, Literal)
        ]
        for i in moving:
            number = expansion.number(("derivative", values[i].number))
            slope_of_operand = Series(differentiate(values[i].coefficients), number)
            self._operands.append(slope_of_operand.truncate(order - 1))

    def slopes(self, expansion: Any) -> list[Any]:
        """The derivatives of the results in `floats`: series, arrays, or pending."""
        return expansion.evaluate(self.slope.jaxpr, self.slope.consts, self._operands, self.order - 1)

    def integrate(self, slopes: Sequence[Any]) -> list[Array]:
        """The coefficients of the results in `floats`."""
        return [
            integrate(self.first[i], coefficients(slope, self.order - 1))
            for i, slope in zip(self.floats, slopes, strict=True)
        ]

    def results(self, series: Sequence[Any]) -> list[Any]:
        """All results, those in `floats` being these."""
        results = list(self.first)
        for i, y in zip(self.floats, series, strict=True):
            results[i] = y
        return results

    def wait_for(self, keys: frozenset[int]) -> list[Any]:
        """All results, those in `floats` being pending."""
        return self.results([Pending(self.first[i], keys) for i in self.floats])


def solve_together(system: Sequence[Unknown]) -> list[Any]:
    """The results of the first, with those of the others found on the way.

    Whatever does not depend on them is known already, outside of the loop. One body does for every order,
    where writing the orders out would need a body for each.
    """
    leader = system[0]

    def improve(_: Any, guesses: list[list[Array]]) -> list[list[Array]]:
        inner = leader.expansion.inside()
        for unknown, guess in zip(system, guesses, strict=True):
            numbered = [
                Series(y, inner.number((unknown.key, i))) for i, y in zip(unknown.floats, guess, strict=True)
            ]
            inner.results.setdefault(unknown.key, {})[unknown.order] = unknown.results(numbered)
        return [unknown.integrate(unknown.slopes(inner)) for unknown in system]

    start = [[constant(unknown.first[i], unknown.order) for i in unknown.floats] for unknown in system]
    return leader.results(lax.fori_loop(0, leader.order, improve, start)[0])
