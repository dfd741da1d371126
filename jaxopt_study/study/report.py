"""`jaxopt-study report RUN...`: one page of HTML that needs no network, and its pictures as PNG and SVG.

What is drawn is in `report_pictures`, what is told in `report_tables` and `report_tiles`; here is the page.
"""

import base64
import functools
import html
import importlib.util
import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_study.study.protocol import StudyInputError
from jaxopt_study.study.read_record import Record, read_record
from jaxopt_study.study.record import atomic_write
from jaxopt_study.study.report_tables import details, summaries
from jaxopt_study.study.report_text import as_text
from jaxopt_study.study.report_tiles import tiles
from jaxopt_study.version import __version__

LARGEST_PICTURES = 2_500_000  # bytes of the study's own pictures on a page of at most 5 MB


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
    from jaxopt_study.study.picture_style import FAINT, INK, PAPER, RULE

    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>p{number}-", svg)
    for color, name in ((INK, "ink"), (FAINT, "faint"), (RULE, "rule"), (PAPER, "card")):
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
    below = [(name, _key(name), tables) for name, tables in details(records) if tables]
    sections = [("Summary", "summary"), *((name, key) for name, key, _ in [*shown, *below])]
    titles = dict.fromkeys(record.title for record in records)
    return environment.get_template("page.html").render(
        title=next(iter(titles)) if len(titles) == 1 else f"{len(records)} records of {len(titles)} studies",
        subtitle=_subtitle(records),
        sections=sections,
        tiles=tiles(records),
        summary=list(summaries(records)),
        pictures=shown,
        details=below,
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
