"""`jaxopt-study report RUN...`: one page of HTML that needs no network, and its pictures as PNG and SVG.

What is drawn is `report_pictures`' business, what is counted `report_data`'s; here is the page.
"""

import base64
import functools
import html
import importlib.util
import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.read_record import Record, as_table, finite, read_record
from jaxopt_study.study.record import atomic_write
from jaxopt_study.study.report_data import (
    LARGEST_TABLE,
    as_text,
    counted,
    differences,
    median_of,
    values_of,
)
from jaxopt_study.version import __version__

LARGEST_PICTURES = 2_500_000  # bytes of the study's own pictures on a page of at most 5 MB
GOOD = ("converged", "target reached")
BAD = ("non finite", "stalled", "rank deficient")


class Cell(NamedTuple):
    """What stands in a table: its text, what it is sorted by (None: the text), how it looks."""

    text: str
    sort: float | None = None
    look: str = ""


class Table(NamedTuple):
    """A table of the page."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    note: str = ""
    search: bool = False


def report(folders: Sequence[Path | str], out: Path | str | None = None) -> Path:
    """Write the page of some records, and its pictures beside it.

    Args:
      folders: of runs and sweeps.
      out: the page; `report.html` in the folder of one record, in the working directory for more. The
        pictures go into a folder of its name without `.html`.

    Returns:
      The page's path.

    Raises:
      StudyInputError: a folder is no record, a file in it cannot be read, or the page cannot be written.
    """
    if importlib.util.find_spec("jinja2") is None:
        raise StudyInputError('jinja2 is not installed: pip install "jaxopt_study[study]"')
    records = [read_record(folder) for folder in folders]
    _distinct(records)
    if out is None:
        out = records[0].folder / "report.html" if len(records) == 1 else Path("report.html")
    page = Path(out)
    if page.suffix != ".html":
        raise StudyInputError(f"--out: {page}: expected a file whose name ends in .html")
    try:
        beside = page.with_suffix("")
        beside.mkdir(parents=True, exist_ok=True)
        # Records may hold anything; what overflows, or has no place on a logarithmic axis, is left out.
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = _page(records, list(_pictures(records, beside)))
        atomic_write(page, lambda file: file.write(text.encode()))
    except OSError as error:
        raise StudyInputError(f"{page}: cannot be written: {error.strerror}") from None
    return page


def _distinct(records: Sequence[Record]) -> None:
    names = [record.name for record in records]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise StudyInputError(f"{twice}: was given twice, or is the name of two records")


def _pictures(records: Sequence[Record], folder: Path) -> Iterator[dict[str, Any]]:
    """Each picture, written as PNG and SVG, and as it stands in the page."""
    import matplotlib

    from jaxopt_study.study.picture_style import STYLE
    from jaxopt_study.study.report_pictures import pictures

    with matplotlib.rc_context(STYLE):
        for number, picture in enumerate(pictures(records)):
            note, image = picture.note, ""
            try:
                image = _inline(_saved(picture, folder), number, picture.title)
            except OSError:
                raise
            except Exception as error:  # one odd column is to cost its picture, and not the page
                note = f"Could not be drawn: {type(error).__name__}: {error}"
            yield {
                "section": picture.section,
                "title": picture.title,
                "note": note,
                "wide": picture.is_wide,
                "image": image,
            }


def _saved(picture: Any, folder: Path) -> str:
    """Draw a picture, write it as PNG and SVG; the SVG for the page, without a background."""
    figure = picture.draw()
    name = re.sub(r"[^\w.\-]+", "_", picture.name)
    atomic_write(folder / f"{name}.png", functools.partial(figure.savefig, format="png", facecolor="white"))
    figure.set_layout_engine("none")  # everything has its place; to find it takes as long as to draw
    memory = io.StringIO()
    figure.savefig(memory, format="svg", facecolor="white", dpi=110, metadata={"Date": None})
    svg = memory.getvalue()
    atomic_write(folder / f"{name}.svg", lambda file: file.write(svg.encode()))
    return re.sub(r'<g id="patch_1">.*?</g>', "", svg, count=1, flags=re.DOTALL)


def _inline(svg: str, number: int, title: str) -> str:
    """An SVG for the page: its ids its own, its ink that of the page, described by its title."""
    from jaxopt_study.study.picture_style import FAINT, INK, RULE

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>p{number}-", svg)
    for color, name in ((INK, "ink"), (FAINT, "faint"), (RULE, "rule")):
        svg = re.sub(color, f"var(--{name})", svg, flags=re.IGNORECASE)
    head, rest = svg.split(">", 1)
    svg = re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest  # as wide as there is room
    label = html.escape(title, quote=True)
    return re.sub(r"\n\s*", "\n", svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1))


def _page(records: Sequence[Record], images: Sequence[Mapping[str, Any]]) -> str:
    import jinja2
    from markupsafe import Markup

    files = resources.files("jaxopt_study.study") / "page"
    read = {
        path.name: path.read_text(encoding="utf-8")
        for path in files.iterdir()
        if path.name.startswith(("page", "table"))
    }
    loader = jinja2.DictLoader(read)
    environment = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    table = environment.get_template("table.html")
    drawn = [{**image, "image": Markup(image["image"])} for image in images]
    drawn += [{**image, "image": Markup(image["image"])} for image in _own_pictures(records)]
    kinds = dict.fromkeys(image["section"] for image in drawn)
    shown = [(kind, _key(kind), [image for image in drawn if image["section"] == kind]) for kind in kinds]
    details = [(name, _key(name), tables) for name, tables in _details(records) if tables]
    sections = [("Summary", "summary"), *((name, key) for name, key, _ in [*shown, *details])]
    titles = dict.fromkeys(record.title for record in records)
    return environment.get_template("page.html").render(
        title=next(iter(titles)) if len(titles) == 1 else f"{len(records)} records of {len(titles)} studies",
        subtitle=_subtitle(records),
        sections=sections,
        tiles=_tiles(records),
        summary=list(_summaries(records)),
        pictures=shown,
        details=details,
        footer=f"Written by jaxopt_study {__version__} from {', '.join(str(one.folder) for one in records)}.",
        css=Markup(read["page.css"]),
        js=Markup(read["page.js"]),
        block=lambda given: Markup(table.render(table=given)),
    )


def _key(name: str) -> str:
    return re.sub(r"\W+", "-", name.lower())


def _subtitle(records: Sequence[Record]) -> str:
    if len(records) > 1:
        return ", ".join(record.name for record in records)
    (record,) = records
    device = as_text(record.table("environment").get("device_kind"))
    made = as_text(record.result.get("created")).replace("T", " ").replace("+00:00", " UTC")
    cut = "interrupted" if record.result.get("interrupted") is True else ""
    return " · ".join(part for part in (record.name, made, device, cut) if part)


def _tiles(records: Sequence[Record]) -> list[dict[str, str]]:
    tiles = []
    for record in records if len(records) <= 3 else ():
        about = f"{record.name}: " if len(records) > 1 else ""
        if record.is_sweep:
            counts, timing, best = record.table("counts"), record.table("timing"), record.table("best")
            value = values_of(record)
            good = value[np.isfinite(value)]
            tiles += [
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
                tiles.append(
                    {
                        "label": f"{about}wall time",
                        "number": _seconds(finite(timing["wall_seconds"])),
                        "note": f"{_seconds(compiling)} of it compiling" if math.isfinite(compiling) else "",
                    }
                )
        for name, number in list(record.table("summary").items())[:6]:
            tiles.append({"label": f"{about}{name.replace('_', ' ')}", "number": _short(number), "note": ""})
    return tiles


def _programs(count: float) -> str:
    return f"{count:.0f} compiled program{'' if count == 1 else 's'}" if math.isfinite(count) else ""


def _summaries(records: Sequence[Record]) -> Iterator[Table]:
    rows = []
    for record in records:
        for label, variant in record.table("variants").items():
            if isinstance(variant, Mapping):
                rows.append(_variant_row(record, label, variant, len(records) > 1))
    if rows:
        head = ["variant", "status", "steps", "value", "compile s", "run s", "dtype"]
        yield Table(
            ["run", *head] if len(records) > 1 else head, rows, "Runs", "Medians, where there are lanes."
        )
    for record in records:
        if record.is_sweep:
            statuses = record.table("counts").get("status")
            items = statuses.items() if isinstance(statuses, Mapping) else ()
            ended = [[_status(as_text(name)), _number(finite(count))] for name, count in items]
            if ended:
                yield Table(["status", "points"], ended, f"How the points of {record.name} ended")


def _variant_row(record: Record, label: str, variant: Mapping[str, Any], several: bool) -> list[Cell]:
    timing = as_table(variant.get("timing"))
    row = [
        Cell(str(label), None, "key"),
        _status(counted(variant.get("status"))),
        _number(median_of(variant.get("num_steps"))),
        _number(median_of(variant.get("value"))),
        _number(finite(timing.get("compile_seconds"))),
        _number(finite(timing.get("run_seconds"))),
        Cell(as_text(variant.get("dtype"))),
    ]
    return [Cell(record.name, None, "key"), *row] if several else row


def _details(records: Sequence[Record]) -> Iterator[tuple[str, list[Table]]]:
    for record in records:
        if record.is_sweep:
            yield ("Points" if len(records) == 1 else f"Points of {record.name}"), [_points(record)]
    yield "Configs", list(_configs(records))
    yield "Environment", [_environment(records)]


def _points(record: Record) -> Table:
    table = record.points
    value = values_of(record)
    order = np.argsort(np.where(np.isfinite(value), value, np.inf), kind="stable")[:LARGEST_TABLE]
    hidden = {"group", "job"} | {name for name in ("lane", "variant") if _is_one(table, name)}
    names = [name for name in table.column_names if name not in hidden]
    columns = {name: table.column(name).to_pylist() for name in names}
    rows = [[_cell(name, columns[name][row]) for name in names] for row in order]
    note = "The lowest values first; click on a column's name to sort."
    if len(value) > LARGEST_TABLE:
        note = f"The lowest {LARGEST_TABLE:,} of {len(value):,}; points.parquet has all."
    return Table(names, rows, "", note, search=True)


def _is_one(table: Any, name: str) -> bool:
    return name in table.column_names and len(table.column(name).unique()) <= 1


def _configs(records: Sequence[Record]) -> Iterator[Table]:
    configs = {
        (label if len(records) == 1 else f"{record.name}: {label}"): config
        for record in records
        for label, config in record.configs.items()
    }
    if not configs:
        return
    differing, same = differences(configs)
    if differing:
        rows = [
            [
                Cell(key, None, "key"),
                *(Cell(as_text(config.get(key)), None, "differs") for config in configs.values()),
            ]
            for key in differing
        ]
        yield Table(["key", *configs], rows, "What differs")
    if same:
        first = next(iter(configs.values()))
        rows = [[Cell(key, None, "key"), Cell(as_text(first.get(key)))] for key in same]
        yield Table(["key", "value"], rows, "What is the same" if len(configs) > 1 else "")


def _environment(records: Sequence[Record]) -> Table:
    found = {
        record.name: {"jaxopt_study": record.result.get("version"), **record.table("environment")}
        for record in records
    }
    keys = list(dict.fromkeys(key for each in found.values() for key in each))
    rows = []
    for key in keys:
        texts = [as_text(each.get(key)) for each in found.values()]
        look = "differs" if len(set(texts)) > 1 else ""
        rows.append([Cell(key, None, "key"), *(Cell(text, None, look) for text in texts)])
    return Table(["", *found] if len(found) > 1 else ["name", "value"], rows)


def _own_pictures(records: Sequence[Record]) -> Iterator[dict[str, Any]]:
    """The pictures that the studies drew, as long as the page has room for them."""
    room = LARGEST_PICTURES
    for record in records:
        for path in record.pictures:
            try:
                content = path.read_bytes()
            except OSError:
                continue
            room -= len(content) * 4 // 3
            name = html.escape(path.stem, quote=True)
            note = "Drawn by the study."
            image = f'<img alt="{name}" src="data:image/png;base64,{base64.b64encode(content).decode()}">'
            if room < 0:
                note, image = f"Too large for this page: see {path.name} in the record.", ""
            title = path.stem if len(records) == 1 else f"{record.name}: {path.stem}"
            yield {"section": "Pictures", "title": title, "note": note, "wide": True, "image": image}


def _status(text: str) -> Cell:
    words = text.lower().replace("_", " ")
    look = (
        "bad" if any(bad in words for bad in BAD) else "good" if any(good in words for good in GOOD) else ""
    )
    return Cell(words, None, look)


def _number(value: float) -> Cell:
    whole = math.isfinite(value) and value == int(value) and abs(value) < 1e15
    return Cell(f"{int(value):,}" if whole else f"{value:.6g}", value, "n")


def _cell(name: str, value: Any) -> Cell:
    if name == "status":
        return _status(as_text(value))
    if isinstance(value, list) and len(value) == 1:
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int | float):
        return Cell(as_text(value))
    return Cell(as_text(value), float(value), "n")


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
