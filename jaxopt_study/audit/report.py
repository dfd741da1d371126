"""What an audit found: where, by how much, and what could not be checked."""

import dataclasses

import numpy as np

SHOWN = 8  # findings of a kind that are printed


@dataclasses.dataclass(frozen=True)
class Finding:
    """One derivative that is not what it should be, or one place that has none.

    Attributes:
      check: `"forward"`, `"reverse"`, `"second order"`, `"vmap"`, `"forward against reverse"`, `"symmetry"`.
      argument: the element that is differentiated by, as `args[0]['w'][2, 1]`.
      output: the element of the output; for second order, that of the gradient.
      point: `"as given"`, or which probe.
      got: the derivative.
      expected: what it should be, by differences or by the other way of computing it.
      error: the estimated error of `expected`.
      relative: how far off, relative to the larger of the two.
      why: more words, if there is more to say.
    """

    check: str
    argument: str
    output: str
    point: str
    got: float
    expected: float
    error: float
    relative: float
    why: str = ""

    def __str__(self) -> str:
        where = f"d {self.output} / d {self.argument}" if self.argument else self.output
        numbers = f"is {self.got:.7g}"
        if not np.isnan(self.expected):
            numbers += f", expected {self.expected:.7g}"
        if np.isfinite(self.error) and self.error > 0:
            numbers += f" ± {self.error:.1g}"
        if np.isnan(self.got) and np.isnan(self.expected):
            numbers = ""
        off = f"off by {self.relative:.1e} relative" if np.isfinite(self.relative) else ""
        words = ", ".join(word for word in (numbers, off, f"at the point {self.point}", self.why) if word)
        return f"{self.check}: {where} {words}"


@dataclasses.dataclass(frozen=True)
class Report:
    """The outcome of an audit; true if nothing is wrong.

    Attributes:
      function: its name.
      faults: derivatives that are wrong, the worst of each kind, argument and point.
      kinks: places where the derivatives from the two sides differ or are infinite, so that none is right.
      notes: what could not be checked, and why.
      worst: for each argument's name, for each check, the largest relative error seen.
      points: how many points were looked at.
    """

    function: str
    faults: tuple[Finding, ...]
    kinks: tuple[Finding, ...]
    notes: tuple[str, ...]
    worst: dict[str, dict[str, float]]
    points: int

    @property
    def ok(self) -> bool:
        """Whether no fault was found."""
        return not self.faults

    def __bool__(self) -> bool:
        return self.ok

    def raise_if_wrong(self) -> "Report":
        """Raise an `AssertionError` that shows the report, if a fault was found; else return the report."""
        if not self.ok:
            raise AssertionError(f"\n{self}")
        return self

    def __str__(self) -> str:
        verdict = "no fault found" if self.ok else f"{len(self.faults)} faults found"
        if len(self.faults) == 1:
            verdict = "1 fault found"
        lines = [f"derivatives of {self.function}: {verdict} ({self.points} points)"]
        checks = list(dict.fromkeys(check for row in self.worst.values() for check in row))
        if checks:
            width = max(len("argument"), *(len(name) for name in self.worst))
            lines.append("worst relative error")
            lines.append(
                f"  {'argument':<{width}}"
                + "".join(f"{check:>{max(12, len(check) + 2)}}" for check in checks)
            )
            for name, row in self.worst.items():
                cells = (f"{row[check]:.1e}" if check in row else "" for check in checks)
                padded = (
                    f"{cell:>{max(12, len(check) + 2)}}" for cell, check in zip(cells, checks, strict=True)
                )
                lines.append(f"  {name:<{width}}" + "".join(padded))
        for title, found in (("wrong", self.faults), ("kinks", self.kinks)):
            if found:
                lines.append(title)
                lines += [f"  {finding}" for finding in found[:SHOWN]]
                if len(found) > SHOWN:
                    lines.append(f"  and {len(found) - SHOWN} more")
        if self.notes:
            lines.append("not checked")
            lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)
