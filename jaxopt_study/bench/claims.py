"""Which ratios are claimed, and whether they were measured."""

import dataclasses
import math
from collections.abc import Sequence

from jaxopt_study.bench.case import Row
from jaxopt_study.bench.table import ratio_text


@dataclasses.dataclass(frozen=True)
class Judged:
    """A claim, and what came of it.

    Attributes:
      name: suite / case / contestant; of several cases together, their name for the case's.
      claimed: the ratio, in words.
      measured: in words, too.
      met: whether that is what is claimed.
    """

    name: str
    claimed: str
    measured: str
    met: bool


def judge(rows: Sequence[Row]) -> list[Judged]:
    """Every claim about some rows, in their order; of several cases together after the last of them."""
    found = []
    together = [row for row in rows if row.claimed_together is not None]
    last = {(row.suite, row.group): row for row in together}
    for row in rows:
        name = f"{row.suite} / {row.case} / {row.contestant}"
        if row.claimed is not None:
            found.append(Judged(name, f"{row.claimed:g}x", ratio_text(row), meets_claim(row)))
        if row.at_most is not None:
            met = row.ratio is not None and row.ratio <= row.at_most
            found.append(Judged(name, f"at most {row.at_most:g}x", ratio_text(row), met))
        if any(row is one for one in last.values()):
            found += _together([one for one in together if (one.suite, one.group) == (row.suite, row.group)])
    return found


def meets_claim(row: Row) -> bool:
    """Whether the ratio is as claimed. Who claims to be about as fast does so with the same program."""
    claimed = float(row.claimed or 0)
    return (row.same_program and claimed <= 1) or (row.ratio is not None and row.ratio >= claimed)


def _together(rows: Sequence[Row]) -> list[Judged]:
    """The geometric mean of the ratios to each contestant; who does not solve a case has none there."""
    found = []
    for contestant in dict.fromkeys(row.contestant for row in rows):
        some = [row for row in rows if row.contestant == contestant]
        ratios = [row.ratio for row in some if row.ratio is not None]
        claimed = some[0].claimed_together or 0.0
        mean = math.exp(sum(map(math.log, ratios)) / len(ratios)) if ratios else math.nan
        measured = f"{mean:.3g}x ({len(ratios)} of {len(some)} cases)" if ratios else "not measured"
        name = f"{some[0].suite} / {some[0].group} / {contestant}"
        found.append(Judged(name, f"{claimed:g}x", measured, mean >= claimed))
    return found
