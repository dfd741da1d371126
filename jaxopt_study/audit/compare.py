"""Derivatives against differences: what is wrong, at which element, and where there is none."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxopt_study.audit.differences import Differences, Floats
from jaxopt_study.audit.flat import FlatFunction
from jaxopt_study.audit.judge import Verdict, judge, tolerance
from jaxopt_study.audit.places import Line
from jaxopt_study.audit.report import Finding
from jaxopt_study.audit.sampling import Way, largest_near, name_of
from jaxopt_study.audit.search import along, search, worst_output

UNAVAILABLE = ("forward-mode", "reverse-mode", "not implemented", "not support")


class Found:
    """What is found, as it is found."""

    def __init__(self) -> None:
        self.faults: list[Finding] = []
        self.kinks: list[Finding] = []
        self.notes: list[str] = []
        self.worst: dict[str, dict[str, float]] = {}

    def seen(self, argument: str, check: str, relative: float) -> None:
        """Remember the largest error of each argument and check."""
        row = self.worst.setdefault(argument, {})
        row[check] = max(row.get(check, 0.0), relative)

    def attempt(self, check: str, work: Callable[[], Any]) -> Any:
        """The result of some work, or None where JAX has no such derivative or the function raises."""
        try:
            return work()
        except Exception as error:  # whatever a rule raises is a finding
            message = str(error).strip().split("\n")[0]
            if isinstance(error, TypeError | ValueError | NotImplementedError) and any(
                word in message.lower() for word in UNAVAILABLE
            ):
                self.notes.append(f"{check}: {message}")
            else:
                why = f"raises {type(error).__name__}: {message}"
                self.faults.append(Finding(check, "", "", "as given", np.nan, np.nan, np.inf, np.nan, why))
            return None


def compare(
    way: Way,
    slope: Floats,
    truth: Differences,
    exact: Floats | None,
    rounding: Floats,
    flat: FlatFunction,
    found: Found,
    points: Floats,
    labels: tuple[str, ...],
    lines: tuple[Line, ...],
    directions: Floats,
) -> np.ndarray:
    """Judge, and note what is wrong, the worst of every leaf at every point; which entries are wrong."""
    count = len(lines)
    largest = largest_near(slope, truth, lines, directions)
    floor = 1e3 * flat.eps * largest + rounding
    verdict = judge(slope, truth, flat.eps, largest, floor)
    verdict = verdict._replace(
        wrong=verdict.wrong & ~(beside_kinks(slope, truth, count) & ~np.isfinite(slope))
    )
    if exact is not None:
        verdict = _sharper(verdict, slope, exact, truth, flat.eps, floor)
    for leaf in flat.inputs:
        mine = np.flatnonzero([line.leaf is leaf for line in lines])
        faults: list[Finding] = []
        for p, label in enumerate(labels):
            rows = p * count + mine
            if np.isfinite(verdict.relative[rows]).any():
                found.seen(leaf.name, way.name, float(np.nanmax(verdict.relative[rows])))
            if p == 0:
                _note_kinks(way, verdict, slope, truth, found, rows, lines, label, directions[0], flat.eps)
                if verdict.unknown[rows].all():
                    found.notes.append(f"{way.name}: {leaf.name}: the differences are too inaccurate to tell")
            wrong = verdict.wrong[rows]
            if not wrong.any():
                continue
            if p > 0 and not np.isfinite(slope[rows][wrong]).all():
                found.notes.append(
                    f"{way.name}: {leaf.name}: the derivative is not finite at the point {label}"
                )
                wrong = wrong & np.isfinite(slope[rows])
                if not wrong.any():
                    continue
            fault = worst_fault(
                way, slope, truth, exact, flat, rows, wrong, lines, label, points[p], directions[p]
            )
            if fault is not None:
                faults.append(fault)
        found.faults += one_of(faults)
    return verdict.wrong


def beside_kinks(slope: Floats, truth: Differences, lines: int) -> np.ndarray:
    """Where an output has an infinite derivative by something else at that point.

    Forward mode makes zero times infinity of it, which is not a number, for everything else.
    """
    infinite = (truth.kink & ~np.isfinite(slope)).reshape(-1, lines, slope.shape[1]).any(axis=1)
    return np.repeat(infinite, lines, axis=0)


def one_of(faults: list[Finding]) -> list[Finding]:
    """One fault seen at several points: at the first of them."""
    if len(faults) < 2:
        return faults
    others = ", ".join(fault.point for fault in faults[1:])
    why = "; ".join(word for word in (faults[0].why, f"also wrong {others}") if word)
    return [dataclasses.replace(faults[0], why=why)]


def worst_fault(
    way: Way,
    slope: Floats,
    truth: Differences,
    exact: Floats | None,
    flat: FlatFunction,
    rows: np.ndarray,
    wrong: np.ndarray,
    lines: tuple[Line, ...],
    label: str,
    point: Floats,
    directions: Floats,
) -> Finding | None:
    """The worst of what is wrong in these rows, by element; None where kinks alone look like it."""
    count = len(lines)
    expected = truth.value if exact is None else np.where(np.isfinite(exact), exact, truth.value)
    error = truth.error if exact is None else np.where(np.isfinite(exact), 0.0, truth.error)
    off = np.abs(slope[rows] - expected[rows])
    off = np.where(wrong, np.where(np.isfinite(off), off, np.inf), -1.0)
    alone = np.array([lines[row % count].element is not None for row in rows])
    if (off[alone] >= 0).any():  # an element is known to be wrong: no need to search
        off[~alone] = -1.0
    at, output = (int(index) for index in np.unravel_index(np.argmax(off), off.shape))
    row = rows[at]
    line, direction = lines[row % count], directions[row % count]
    got, want, its_error = slope[row, output], expected[row, output], error[row, output]
    if line.element is None:
        place = search(way, flat, point, direction, line)
        if place is None:
            return None  # kinks alone
        line, output, got, want, its_error = place
    name = way.output(int(output))
    if way.whole is not None and line.element is not None:  # which of the outputs is it?
        whole = way.whole()
        wrong, slopes, truths = along(whole, flat, point, direction, np.array([line.element]))
        if wrong.any():
            output, got, want, its_error = worst_output(wrong, slopes, truths)
            name = whole.output(output)
    size = 1.0 if line.element is None else direction[line.element]
    relative = abs(got - want) / max(abs(got), abs(want)) if np.isfinite(got) else np.inf
    why = "" if np.isfinite(got) else "the derivative is not finite"
    return Finding(
        way.name,
        name_of(line),
        name,
        label,
        float(got / size),
        float(want / size),
        float(its_error / abs(size)),
        float(relative),
        why,
    )


def _note_kinks(
    way: Way,
    verdict: Verdict,
    slope: Floats,
    truth: Differences,
    found: Found,
    rows: np.ndarray,
    lines: tuple[Line, ...],
    label: str,
    directions: Floats,
    eps: float,
) -> None:
    for row in rows:
        for output in np.flatnonzero(verdict.kink[row])[:1]:
            line = lines[row % len(lines)]
            sides = truth.left[row, output], truth.right[row, output]
            small = abs(sides[0] - sides[1]) < 10 * tolerance(eps) * max(map(abs, sides))
            if small or any(kink.argument == name_of(line) for kink in found.kinks):
                continue
            size = 1.0 if line.element is None else directions[row % len(lines), line.element]
            left, right = np.sort([truth.left[row, output] / size, truth.right[row, output] / size])
            why = (
                f"kink: {left:.3g} from one side, {right:.3g} from the other"
                if np.isfinite(left + right)
                else "kink"
            )
            got = float(slope[row, output] / size)
            found.kinks.append(
                Finding(
                    way.name, name_of(line), way.output(int(output)), label, got, np.nan, np.inf, np.nan, why
                )
            )


def _sharper(
    verdict: Verdict, slope: Floats, exact: Floats, truth: Differences, eps: float, floor: Floats
) -> Verdict:
    """What a complex step shows beyond the differences: it has no error of truncation."""
    with np.errstate(invalid="ignore", divide="ignore"):
        known = np.isfinite(exact) & np.isfinite(slope) & ~truth.kink
        scale = np.fmax(np.abs(slope), np.abs(exact))
        off = np.abs(slope - exact)
        wrong = known & (off > 0.03 * tolerance(eps) * scale + floor)
        relative = np.where(known & (scale > 0), off / np.fmax(scale, floor), verdict.relative)
        relative = np.where(np.isnan(verdict.relative), verdict.relative, relative)
    return verdict._replace(wrong=verdict.wrong | wrong, unknown=verdict.unknown & ~known, relative=relative)
