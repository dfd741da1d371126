"""The tiles on top of a report's page: a few numbers of each record."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxopt_study.study.read_record import Record, finite
from jaxopt_study.study.report_data import values_of
from jaxopt_study.study.report_text import as_text


def tiles(records: Sequence[Record]) -> list[dict[str, str]]:
    """Label, number and note of each tile; none where records are more than three."""
    made = []
    for record in records if len(records) <= 3 else ():
        about = f"{record.name}: " if len(records) > 1 else ""
        if record.is_sweep:
            counts, timing, best = record.table("counts"), record.table("timing"), record.table("best")
            value = values_of(record)
            good = value[np.isfinite(value)]
            made += [
                {
                    "label": f"{about}points",
                    "number": f"{finite(counts.get('points', len(value))):,.0f}",
                    "note": _programs(finite(counts.get("groups"))),
                },
                {
                    "label": f"{about}lowest value",
                    "number": f"{good.min():.4g}" if good.size else "none",
                    "note": _words(best.get("config")),
                },
                {
                    "label": f"{about}median value",
                    "number": f"{np.median(good):.4g}" if good.size else "none",
                    "note": f"{len(value) - good.size} not finite" if good.size < len(value) else "",
                },
            ]
            if "wall_seconds" in timing:
                compiling = finite(timing.get("compile_seconds"))
                made.append(
                    {
                        "label": f"{about}wall time",
                        "number": _seconds(finite(timing["wall_seconds"])),
                        "note": f"{_seconds(compiling)} of it compiling" if math.isfinite(compiling) else "",
                    }
                )
        for name, number in list(record.table("summary").items())[:6]:
            made.append({"label": f"{about}{name.replace('_', ' ')}", "number": _short(number), "note": ""})
    return made


def _programs(count: float) -> str:
    return f"{count:.0f} compiled program{'' if count == 1 else 's'}" if math.isfinite(count) else ""


def _words(config: Any) -> str:
    if not isinstance(config, Mapping):
        return ""
    return ", ".join(f"{key} {as_text(value)}" for key, value in config.items())


def _seconds(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.3g}\u202fs"
    return (
        f"{int(seconds // 60)}\u202fmin {seconds % 60:.0f}\u202fs"
        if seconds < 3600
        else f"{seconds / 3600:.1f}\u202fh"
    )


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else as_text(value)
