"""A jaxpr evaluated on series, equation by equation.

An equation whose operands are constant, or of whose results no series is wanted, is evaluated as it is.
The others go to their rule, and without one to their derivative, of which `unknown` makes the series.
What was computed once from the same operands is not computed again.
"""

import functools
import itertools
from collections.abc import Sequence
from typing import Any

from jax import Array
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from jaxopt_study.series import control_flow, elementary, linear
from jaxopt_study.series.dependence import CALLS, called, can_vary, wanted_equations
from jaxopt_study.series.fallback import bind, derivative, signature
from jaxopt_study.series.series import Pending, Series, pending, primal
from jaxopt_study.series.unknown import Unknown, solve_together


class Expansion:
    """What is known so far of the values in one trace.

    Attributes:
      outer: the expansion around a loop or a branch, of which this is the inside.
      results: by function and operands (their number), and by order, what is known.
      in_progress: by the same number, what is being computed.
    """

    def __init__(self, outer: "Expansion | None" = None) -> None:
        self.outer = outer
        self.results: dict[int, dict[int, list[Any]]] = {}
        self.in_progress: dict[int, Unknown] = {}
        self._constants: dict[int, tuple[int, Any]] = {}  # by id; the value is kept, so that the id is
        self._numbers: dict[Any, int] = outer._numbers if outer else {}
        self._fresh: itertools.count[int] = outer._fresh if outer else itertools.count()

    def inside(self) -> "Expansion":
        """For the body of a loop or a branch: it sees what is known here, and keeps its own to itself."""
        return Expansion(self)

    def unpack(self, arrays: Sequence[Array], varying: Sequence[bool]) -> list[Any]:
        """New series from coefficients, and constants as they are."""
        return [
            Series(array, next(self._fresh)) if varies else array
            for array, varies in zip(arrays, varying, strict=True)
        ]

    def number(self, key: Any) -> int:
        """One number for one key."""
        if key not in self._numbers:
            self._numbers[key] = next(self._fresh)
        return self._numbers[key]

    def evaluate(self, jaxpr: Jaxpr, consts: Sequence[Any], operands: Sequence[Any], order: int) -> list[Any]:
        """The results of a jaxpr.

        Args:
          jaxpr: the function.
          consts: its constants.
          operands: series of order `order`, or arrays.
          order: of all series.

        Returns:
          Series for results that vary, arrays for the others.
        """
        known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
        known.update(zip(jaxpr.invars, operands, strict=True))

        def read(atom: Any) -> Any:
            return atom.val if isinstance(atom, Literal) else known[atom]

        for eqn, (is_live, with_series) in zip(jaxpr.eqns, wanted_equations(jaxpr), strict=True):
            if is_live:
                values = [read(atom) for atom in eqn.invars]
                if not with_series:
                    values = [primal(value) for value in values]
                known.update(zip(eqn.outvars, self._apply(eqn, values, order), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _apply(self, eqn: JaxprEqn, values: list[Any], order: int) -> list[Any]:
        moving = [i for i, value in enumerate(values) if isinstance(value, Series)]
        waiting_for = pending(values)
        name = eqn.primitive.name
        if not moving or waiting_for:
            results = bind(eqn, [primal(value) for value in values])
            return [
                Pending(y, waiting_for) if waiting_for and can_vary(var) else y
                for y, var in zip(results, eqn.outvars, strict=True)
            ]
        if name in CALLS:
            return self.evaluate(*called(eqn), values, order)
        if name in control_flow.RULES:
            return control_flow.RULES[name](self, order, eqn, values)
        rule = _rule(eqn, values, order)
        slope = derivative(eqn, moving) if rule is None else None
        function = signature(eqn, slope)
        key = self.number((function, *map(self._number_of, values))) if function else next(self._fresh)
        found = self._look_up(key, order)
        if found is not None:
            return found
        if slope is None:
            results = rule()
        else:
            results = self._integrate(key, Unknown(self, key, eqn, values, order, moving, slope))
            if pending(results):
                return results
        results = [
            Series(y, self.number((key, i))) if can_vary(var) else y
            for i, (y, var) in enumerate(zip(results, eqn.outvars, strict=True))
        ]
        self.results.setdefault(key, {})[order] = results
        return results

    def _integrate(self, key: int, unknown: Unknown) -> list[Any]:
        """y from the series of y', of one order less."""
        if key in self.in_progress:
            return unknown.wait_for(frozenset([key]))
        self.in_progress[key] = unknown
        slopes = unknown.slopes(self)
        del self.in_progress[key]
        waits_for = pending(slopes)
        if not waits_for:
            return unknown.results(unknown.integrate(slopes))
        if waits_for == {key}:
            return solve_together([unknown, *unknown.companions])
        # Part of what something further out is solved with.
        for other in waits_for - {key}:
            self.in_progress[other].companions += [unknown, *unknown.companions]
        return unknown.wait_for(waits_for - {key})

    def _number_of(self, value: Any) -> int:
        if isinstance(value, Series):
            return value.number
        scope: Expansion | None = self
        while scope is not None:
            if id(value) in scope._constants:
                return scope._constants[id(value)][0]
            scope = scope.outer
        number = next(self._fresh)
        self._constants[id(value)] = (number, value)
        return number

    def _look_up(self, key: int, order: int) -> list[Any] | None:
        scope: Expansion | None = self
        while scope is not None:
            for known_order, results in scope.results.get(key, {}).items():
                if known_order >= order:
                    return [y.truncate(order) if isinstance(y, Series) else y for y in results]
            scope = scope.outer
        return None


def _rule(eqn: JaxprEqn, values: list[Any], order: int) -> Any:
    """The rule for an equation, as a function that gives its results or their coefficients; None without."""
    name, several = eqn.primitive.name, eqn.primitive.multiple_results
    if not all(can_vary(var) for var in eqn.outvars):
        return None

    def single(*operands: Any) -> Any:
        results = bind(eqn, operands)
        return tuple(results) if several else results[0]

    def linearly(positions: Sequence[int]) -> list[Any]:
        results = linear.apply_linear(order, values, single, positions)
        return list(results) if several else [results]

    positions = linear.linear_operands(name, len(values))
    if positions is not None:
        if any(isinstance(value, Series) and i not in positions for i, value in enumerate(values)):
            return None
        return functools.partial(linearly, positions)
    if name in linear.BILINEAR:
        return lambda: [linear.apply_bilinear(order, values, single)]
    if name == "triangular_solve":
        return lambda: [linear.triangular_solve(order, *values, **eqn.params)]
    shape: tuple[int, ...] = eqn.outvars[0].aval.shape  # type: ignore[attr-defined]
    rule = elementary.rule(name, eqn.params, values, shape, order)
    return None if rule is None else lambda: [rule(single(*map(primal, values)))]
