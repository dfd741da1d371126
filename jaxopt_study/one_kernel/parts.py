"""Loops that compute much: what lies between their large operations is one function each.

Products of large matrices, factorizations and passes over data stay XLA's kernels. Around them an iteration
is a hundred small operations on numbers and short vectors, which take XLA longer to compile than all the
large ones.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

from jaxopt_study.one_kernel.rewrite import cost_of_one

LARGE = 256  # elements of an array: a pass over more is a kernel, which XLA makes vectors and threads of
DEAR = 16 * LARGE  # of `cost`, of one operation
FEWEST = 16  # operations that are worth a function: its arguments are copied

Call = Callable[..., Sequence[Any]]


def run_in_parts(call: Call, program: ClosedJaxpr, *args: Any) -> list[Any]:
    """Evaluate a program; of its loops what is small is handed to `call`, many operations at a time.

    Args:
      call: `call(program, *args)`, which runs a program.
      program: to be evaluated.
      args: its arguments.

    >>> double = lambda x: sum([x] * 20)
    >>> loop = jax.make_jaxpr(lambda x: jax.lax.while_loop(lambda x: x < 50.0, double, x))(1.0)
    >>> sizes = []
    >>> def call(program, *args):
    ...     sizes.append(len(program.jaxpr.eqns))
    ...     return jaxpr_as_fun(program)(*args)
    >>> print(*run_in_parts(call, loop, 1.0), sizes)
    400.0 [20]
    """
    state = _State(call, program, args)
    for eqn in program.jaxpr.eqns:
        state.run_large(eqn)
    return state.read(program.jaxpr.outvars)


class _State:
    """A program half run: what is known of its variables."""

    def __init__(self, call: Call, program: ClosedJaxpr, args: Iterable[Any]) -> None:
        jaxpr = program.jaxpr
        self.call = call
        self.jaxpr = jaxpr
        self.known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*program.consts, *args], strict=True))
        self.readers: dict[Any, set[int]] = defaultdict(set)
        for eqn in jaxpr.eqns:
            for v in _variables(eqn.invars):
                self.readers[v].add(id(eqn))
        for v in _variables(jaxpr.outvars):
            self.readers[v].add(0)

    def read(self, atoms: Iterable[Any]) -> list[Any]:
        return [atom.val if isinstance(atom, Literal) else self.known[atom] for atom in atoms]

    def run_large(self, eqn: JaxprEqn) -> None:
        if eqn.primitive.name == "while" and not eqn.params["cond_jaxpr"].out_avals[0].shape:
            self.known.update(zip(eqn.outvars, self._loop(eqn.params, self.read(eqn.invars)), strict=True))
        else:
            self.run([eqn], lambda part, *args: jaxpr_as_fun(part)(*args))

    def run(self, eqns: list[JaxprEqn], call: Call) -> None:
        """Some of the operations as a program of their own, which returns what others read."""
        ours = set(map(id, eqns))
        made = dict.fromkeys(v for eqn in eqns for v in eqn.outvars)
        into = dict.fromkeys(v for eqn in eqns for v in _variables(eqn.invars) if v not in made)
        out = [v for v in made if not self.readers[v] <= ours]
        part = self.jaxpr.replace(
            constvars=[],
            invars=[*into],
            outvars=out,
            eqns=eqns,
            debug_info=self.jaxpr.debug_info.with_unknown_names(),
        )
        self.known.update(zip(out, call(ClosedJaxpr(part, []), *self.read(into)), strict=True))

    def _loop(self, params: dict[str, Any], values: list[Any]) -> Sequence[Any]:
        of_cond, of_body = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]
        going, body = jaxpr_as_fun(params["cond_jaxpr"]), params["body_jaxpr"]

        def again(carry: list[Any]) -> list[Any]:
            state = _State(self.call, body, [*values[of_cond:of_body], *carry])
            for small, large in _levels(body.jaxpr):
                if len(small) >= FEWEST:
                    state.run(small, self.call)
                    small = []
                for eqn in (*small, *large):
                    state.run_large(eqn)
            return state.read(body.jaxpr.outvars)

        return jax.lax.while_loop(lambda carry: going(*values[:of_cond], *carry)[0], again, values[of_body:])


def _levels(jaxpr: Jaxpr) -> list[tuple[list[JaxprEqn], list[JaxprEqn]]]:
    """Small and large operations by how many large ones have to come before them."""
    before: dict[Any, int] = {}
    levels: list[tuple[list[JaxprEqn], list[JaxprEqn]]] = []
    for eqn in jaxpr.eqns:
        level = max((before.get(v, 0) for v in _variables(eqn.invars)), default=0)
        while len(levels) <= level:
            levels.append(([], []))
        large = _is_large(eqn)
        levels[level][large].append(eqn)
        before.update(dict.fromkeys(eqn.outvars, level + large))
    return levels


def _is_large(eqn: JaxprEqn) -> bool:
    avals: list[Any] = [v.aval for v in (*eqn.invars, *eqn.outvars)]
    return cost_of_one(eqn) > DEAR or any(aval.size > LARGE for aval in avals)


def _variables(atoms: Iterable[Any]) -> list[Any]:
    return [atom for atom in atoms if not isinstance(atom, Literal)]
