"""Which ratios are claimed, and whether they were measured."""

import dataclasses
import math
from collections.abc import Sequence

from jaxopt_study.bench.case import Figure, Row
from jaxopt_study.bench.table import bound_text, ratio_text


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim, and what came of it.

    Attributes:
      name: suite / case / contestant, or figure; of several cases together, their name for the case's.
      claimed: the ratio, in words.
      measured: in words, too.
      met: whether that is what is claimed.
    """

    name: str
    claimed: str
    measured: str
    met: bool


def judge_claims(rows: Sequence[Row]) -> list[Judged]:
    """Every claim about some rows, in their order; then those of several cases together."""
    found = []
    groups: dict[tuple[str, str | None, str], list[Row]] = {}
    for row in rows:
        if row.claimed is not None:
            found.append(_alone(row))
        if row.at_most is not None:
            found.append(Judged(row.key, f"at most {row.at_most:g}x", ratio_text(row), keeps_limit(row)))
        if row.claimed_together is not None:
            groups.setdefault((row.suite, row.group, row.contestant), []).append(row)
        found += [_of_figure(row, one) for one in row.figures if bound_text(one)]
    return found + [_together(some) for some in groups.values()]


def meets_claim(row: Row) -> bool:
    """Whether the ratio is as claimed. Who claims to be about as fast does so with the same program."""
    claimed = float(row.claimed or 0)
    if not claimed:
        return True
    return (row.same_program and claimed <= 1) or (row.ratio is not None and row.ratio >= claimed)


def keeps_limit(row: Row) -> bool:
    """Whether the ratio is not above what it may be at most."""
    return row.at_most is None or (row.ratio is not None and row.ratio <= row.at_most)


def _alone(row: Row) -> Judged:
    """A ratio that is not steady is not told; what it is above is, where that is enough."""
    claimed, measured, met = row.claimed or 0.0, ratio_text(row), meets_claim(row)
    if not met and (row.at_least or 0.0) >= claimed:
        measured, met = f"{measured}, at least {row.at_least:.3g}x", True
    return Judged(row.key, f"{claimed:g}x", measured, met)


def _of_figure(row: Row, figure: Figure) -> Judged:
    name = f"{row.suite} / {row.case} / {figure.name}"
    measured = f"{figure.value:.3g}" if row.solved else "not solved"
    return Judged(name, bound_text(figure), measured, figure.is_met and row.solved)


def _together(rows: Sequence[Row]) -> Judged:
    """The geometric mean of the ratios to one contestant; where it does not solve a case it has none.

    Of cases that were left out, or that were not steady, nothing is known: then the claim is not met.
    """
    ratios = [row.ratio for row in rows if row.ratio is not None]
    first, known = rows[0], [row for row in rows if row.ratio is not None or not row.solved]
    claimed = first.claimed_together or 0.0
    mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
    measured = f"{mean:.3g}x ({len(ratios)} of {first.group_size} cases)" if ratios else "not measured"
    met = mean >= claimed and len(known) == first.group_size
    return Judged(f"{first.suite} / {first.group} / {first.contestant}", f"{claimed:g}x", measured, met)
