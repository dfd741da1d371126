"""From the first time to the last: the adaptive loop. States are vectors, time runs forward."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxopt_study.ode.kept import Kept, keep, nothing_kept
from jaxopt_study.ode.observe import observe_all, observe_step, window
from jaxopt_study.ode.place import Place, moved, place_at
from jaxopt_study.ode.plan import Numbers, Plan
from jaxopt_study.ode.step_control import Next, decide, first_step, squared_error
from jaxopt_study.ode.tableau import Stepped
from jaxopt_study.result import Status
from jaxopt_study.types import Float, Int, PyTree


class March(NamedTuple):
    """The state of the loop, and in the end its outcome.

    Attributes:
      place: see `Place`.
      counts: status, tries, and accepted steps.
      ys: the observations.
      kept: see `Kept`.
    """

    place: Place
    counts: Int[Array, " 3"]
    ys: Float[Array, "times n"]
    kept: Kept

    @property
    def status(self) -> Int[Array, ""]:
        """A `Status`."""
        return self.counts[0]

    @property
    def tries(self) -> Int[Array, ""]:
        """Steps tried."""
        return self.counts[1]


def march(plan: Plan, theta: PyTree, y0: Array, t0: Array, ts: Array, numbers: Numbers) -> March:
    """Step from t0 to the last of ts; ys are NaN where the solve did not come to."""
    end, count, dtype = ts[-1], ts.size, y0.dtype
    span = end - t0
    start, finite = begin(plan, theta, y0, t0, end, numbers)
    # Times that turn round, or are not numbers, are found here where they are traced.
    ordered = jnp.all(jnp.diff(ts) >= 0) & (ts[0] >= t0) & jnp.isfinite(span)
    finite = finite & ordered
    status = jnp.where(
        finite, jnp.where(span > 0, Status.RUNNING, Status.END_REACHED), Status.NON_FINITE_START
    )
    at_start = (ts <= t0) & finite
    kept = nothing_kept(plan, y0, t0, jnp.sum(at_start, dtype=jnp.int32))
    width = window(count, y0.size)
    # Where all rows are kept, observations are made in the end, all at once.
    room = 0 if plan.wide else count + width
    padded = jnp.pad(ts, (0, width), constant_values=jnp.inf)
    ys = jnp.where((padded[:room, None] <= t0) & finite, y0[None, :], jnp.nan)
    begun = March(start, jnp.stack([status, 0, 0]).astype(jnp.int32), ys, kept)
    eps = float(jnp.finfo(dtype).eps)

    def body(now: March) -> March:
        stepped, following = attempt(plan, theta, now.place, numbers)
        t_new = now.place.t_new
        accept = following.accept
        status, tries, number = now.counts
        num_saved, ys = now.kept.num_saved, now.ys
        if not plan.wide:
            num_saved, ys = observe_step(
                plan, now.place.t, t_new, stepped.rows, padded, accept, width, (num_saved, ys)
            )
        kept = keep(plan, now.kept, number, now.place, stepped, following)
        tries += 1
        if plan.adapts(numbers):
            too_small = following.h <= 4 * eps * jnp.abs(now.place.t) + eps**2 * jnp.abs(end)
        else:
            too_small = jnp.zeros((), bool)
            status = jnp.where(accept, status, Status.NON_FINITE)
        status = jnp.where(tries >= plan.max_steps, Status.OUT_OF_STEPS, status)
        status = jnp.where(~accept & too_small, Status.STEP_TOO_SMALL, status)
        status = jnp.where(accept & (t_new >= end), Status.END_REACHED, status)
        place = moved(now.place, stepped, following, end)
        counts = jnp.stack([status, tries, number + accept.astype(number.dtype)]).astype(jnp.int32)
        return March(place, counts, ys, kept._replace(num_saved=num_saved))

    ended = jax.lax.while_loop(lambda now: now.status == Status.RUNNING, body, begun)
    ys, kept = ended.ys[:count], ended.kept._replace(t_end=ended.place.t, num_steps=ended.counts[2])
    if plan.wide:
        ys, kept = observe_all(plan, kept, ts, y0, finite)
    return ended._replace(ys=ys, kept=kept)


def begin(
    plan: Plan, theta: PyTree, y0: Array, t0: Array, end: Array, numbers: Numbers
) -> tuple[Place, Array]:
    """The start, with the length of the first step as given, or chosen, and whether it is finite."""
    states = jnp.stack([y0, plan.field(t0, y0, theta)])
    given = numbers.first_step if numbers.step is None else numbers.step
    if given is not None:
        h, finite = jnp.asarray(given, y0.dtype), jnp.isfinite(jnp.sum(0.0 * states))
    else:
        order = plan.method.tableau.order
        field = lambda t, y: plan.field(t, y, theta)  # noqa: E731
        h, finite = first_step(field, t0, states, numbers.tolerances, order)
    return place_at(t0, h, jnp.zeros((), y0.dtype), states, end), finite


def attempt(plan: Plan, theta: PyTree, now: Place, numbers: Numbers) -> tuple[Stepped, Next]:
    """One try from a place: the step, and what follows."""
    method = plan.method
    stepped = method.step(plan.field, theta, now.t, now.h, now.y, now.slope, numbers.tolerances)
    if stepped.error is not None and numbers.step is None:
        square = squared_error(stepped.error, now.y, stepped.y, numbers.tolerances)
        following = decide(square, now.h, now.memory, method.tableau.order, method.proportional)
    else:
        h = now.h if numbers.step is None else jnp.asarray(numbers.step, now.h.dtype)
        following = Next(jnp.all(jnp.isfinite(stepped.y)), h, now.memory)
    return stepped, following
