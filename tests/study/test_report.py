"""The page of a report: what is in it, that it needs nothing else, and how a browser takes it."""

import contextlib
import html.parser
import http.server
import json
import queue
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_study import cli
from jaxopt_study.study.read_record import Record, read_record
from jaxopt_study.study.report import report
from jaxopt_study.study.report_data import axes_of, curves_of, grid, values_of

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(html.parser.HTMLParser):
    """The tags of a page, the cells of its tables and what it asks others for."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.cells, self.asked, self.inside = [], [], [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.inside = tag
        if tag == "td":
            self.cells.append("")
        for name, value in attrs:
            if (
                name in ("src", "href", "xlink:href", "srcset")
                and value
                and not value.startswith(("#", "data:"))
            ):
                self.asked.append(value)

    def handle_data(self, data):
        if self.inside == "td":
            self.cells[-1] += data


@pytest.fixture(scope="module")
def sweep(tmp_path_factory, write_sweep):
    folder = write_sweep(tmp_path_factory.mktemp("sweep") / "toy-sweep", rates=6, seeds=4)
    return folder, report([folder])


@pytest.mark.slow
def test_the_page_of_a_sweep_has_every_picture_and_table_and_asks_nobody(sweep):
    folder, page = sweep
    text = page.read_text()
    found = Page(text)
    assert found.asked == []
    assert "Could not be drawn" not in text
    assert not re.search(r"https?://(?!www\.w3\.org/)", text), "no address but the names of XML"
    assert "@import" not in text
    assert not re.search(r"url\((?!#)", text)
    drawn = {path.stem.removeprefix("toy-sweep-") for path in (folder / "report").glob("*.png")}
    assert drawn == {path.stem.removeprefix("toy-sweep-") for path in (folder / "report").glob("*.svg")}
    maps = {"learning_rate-hidden-map", "learning_rate-hidden-contours", "learning_rate-seed-map"}
    assert drawn == maps | {"learning_rate", "hidden", "parallel", "loss"}
    assert found.tags.count("svg") == len(drawn)
    assert "A toy &lt;b&gt;&amp; more" in text
    assert "<b>&" not in text


@pytest.mark.slow
def test_the_picture_of_a_file_is_a_picture(sweep):
    folder, _ = sweep
    for path in (folder / "report").glob("*.png"):
        assert path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    for path in (folder / "report").glob("*.svg"):
        assert "</svg>" in path.read_text()


def test_a_map_holds_the_medians_of_its_cells(sweep):
    record = read_record(sweep[0])
    by_name = {axis.name: axis for axis in axes_of(record)}
    assert list(by_name) == ["learning_rate", "hidden", "seed"], "most levels first, what only repeats last"
    assert by_name["learning_rate"].is_log
    assert not by_name["hidden"].is_log
    cells = grid(by_name["learning_rate"], by_name["hidden"], values_of(record))
    rate = np.geomspace(1e-4, 1e-1, 6)
    expected = 1e-3 + np.array([[5], [10], [20]]) * np.abs(np.log10(rate) + 2) + 0.01 * np.median(range(4))
    expected[0, -1] = np.nan
    np.testing.assert_allclose(cells, expected, rtol=1e-12)


def test_points_that_kept_other_steps_are_joined_between_them():
    kept = {0: [0, 4, 8], 1: [0, 3, 6]}  # the value is the step, ten more for the second point
    rows = [(point, step, step + 10.0 * point) for point, steps in kept.items() for step in steps]
    names = ("point", "step", "loss")
    trace = pa.table(dict(zip(names, map(list, zip(*rows, strict=True)), strict=True)))
    points = pa.table({"point": [0, 1], "value": [8.0, 16.0]})
    (curve,) = curves_of(Record(Path(), {}, {}, points, trace), "loss")
    np.testing.assert_array_equal(curve.steps, [0, 3, 4, 6, 8])
    np.testing.assert_allclose(curve.lines, [[0, 3, 4, 6, 8], [10, 13, 14, 16, np.nan]])


def test_the_curves_of_a_sweep_are_told_apart_by_its_smallest_axis(sweep):
    curves = curves_of(read_record(sweep[0]), "loss")
    assert [curve.label for curve in curves] == ["hidden = 5", "hidden = 10", "hidden = 20"]
    assert [curve.lines.shape for curve in curves] == [(20, 5), (24, 5), (24, 5)], "five rates are finite"


@pytest.mark.slow
def test_runs_are_compared_and_what_differs_is_said(tmp_path, monkeypatch, capsys, write_run):
    monkeypatch.chdir(tmp_path)
    first, second = write_run(tmp_path / "one"), write_run(tmp_path / "two", scale=2.0, seed=1)
    assert cli.main(["report", str(first), str(second)]) == 0
    assert capsys.readouterr().out == "report.html\n"
    text = (tmp_path / "report.html").read_text()
    drawn = {path.stem for path in (tmp_path / "report").glob("*.png")}
    assert {"one-a-b-path", "two-a-b-path", "one-loss", "compare-loss"} <= drawn
    differing = text[text.index("What differs") : text.index("What is the same")]
    assert "seed" in differing
    assert "method" in differing
    assert "surface" not in differing
    assert "2 target reached, 1 stalled" in text
    assert "1.5" in Page(text).cells


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "nothing: no such folder"),
        (["."], "has no result.json"),
        (["one", "one"], "one: was given twice"),
        (["one", "--out", "page.pdf"], "expected a file whose name ends in .html"),
        (["one", "--out", "one/result.json/x.html"], "cannot be written"),
        (["broken"], "broken/result.json: not valid JSON"),
        (["cut"], "cut/trace.parquet: "),
    ],
)
def test_what_cannot_be_reported_is_one_line(tmp_path, monkeypatch, capsys, write_run, words, message):
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "one")
    (write_run(tmp_path / "broken") / "result.json").write_text("{")
    (write_run(tmp_path / "cut") / "trace.parquet").write_bytes(b"PAR1 and no more")
    assert cli.main(["report", *words]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert len(errors.splitlines()) == 1


words = st.text(max_size=4)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words | st.sampled_from(["NaN", "STALLED"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
    max_leaves=6,
)
parts = ("status", "num_steps", "value", "values", "timing", "dtype")
variants = st.dictionaries(
    words, st.fixed_dictionaries({}, optional=dict.fromkeys(parts, anything)), max_size=2
)
tables = ("title", "variants", "summary", "counts", "best", "timing", "environment", "axes", "created")
results = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(tables, anything | st.dictionaries(words, anything, max_size=2))
    | {"variants": variants},
)
names = {
    "points": st.sampled_from(["value", "rate", "a_seed", "$x^", "_b", "status", "point"]),
    "trace": st.sampled_from(["loss", "step", "lane", "$", "_"]),
}
cells = st.lists(st.none() | st.floats() | st.sampled_from([0.0, 1.0, 1e-300, 1e300]), min_size=4, max_size=4)


@pytest.mark.slow
@settings(max_examples=25)
@given(
    result=results,
    points=st.dictionaries(names["points"], cells, max_size=4),
    trace=st.dictionaries(names["trace"], cells, max_size=3),
)
def test_no_record_ends_in_a_traceback(tmp_path_factory, result, points, trace):
    folder = tmp_path_factory.mktemp("record")
    (folder / "result.json").write_text(json.dumps(result))
    for name, columns in (("points", points), ("trace", trace)):
        if columns:
            arrays = {key: pa.array(column, pa.float64()) for key, column in columns.items()}
            pq.write_table(pa.table(arrays), folder / f"{name}.parquet")
    assert cli.main(["report", str(folder)]) in (0, 2)
    sql = "SELECT * FROM points, traces, runs, configs"
    assert cli.main(["query", sql, "--runs", str(folder)]) in (0, 2)


# In the page itself: how long it took to open, how wide it is, and what a click on a column does.
PROBE = """<script>addEventListener("load", () => requestAnimationFrame(() => requestAnimationFrame(() => {
  const ready = performance.now();
  const tables = [...document.querySelectorAll("table")];
  const table = tables.find((each) => each.textContent.includes("learning_rate"));
  const column = [...table.tHead.rows[0].cells].findIndex((cell) => cell.textContent.trim() === "value");
  const read = () => [...table.tBodies[0].rows].map((row) => row.cells[column].dataset.v);
  const before = read();
  table.tHead.rows[0].cells[column].firstElementChild.click();
  const up = read();
  table.tHead.rows[0].cells[column].firstElementChild.click();
  const says = JSON.stringify({ready, before: before.length, up, down: read(), room: innerWidth,
    wide: document.documentElement.scrollWidth,
    asked: performance.getEntriesByType("resource").map((each) => each.name)});
  fetch("http://127.0.0.1:PORT/", {method: "POST", mode: "no-cors", body: says});
})));</script>"""
FRAME = (
    '<!doctype html><body style="margin: 0"><iframe src="probe.html" width="{width}" height="800"></iframe>'
)


@contextlib.contextmanager
def listening():
    """A server on loopback; yields its port, and a queue of what it is sent."""
    heard = queue.Queue()

    class Listener(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            heard.put(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port, heard
        server.shutdown()
        thread.join()


def seen_by_a_browser(folder, text, width):
    """What `PROBE` says of a page in a window of so many pixels."""
    with listening() as (port, heard):
        (folder / "probe.html").write_text(
            text.replace("</body>", f"{PROBE.replace('PORT', str(port))}</body>")
        )
        (folder / "frame.html").write_text(FRAME.format(width=width))
        words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
        words += [f"--user-data-dir={folder}/profile-{width}", "--window-size=1400,900"]
        command = [CHROMIUM, *words, f"file://{folder}/frame.html"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            return json.loads(heard.get(timeout=100))
        finally:
            browser.terminate()
            browser.wait(timeout=30)


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")
def test_the_page_of_1200_points_opens_in_two_seconds_and_fits_a_phone(tmp_path, write_sweep):
    page = report([write_sweep(tmp_path / "toy", steps=100)])
    text = page.read_text()
    assert len(text.encode()) < 5_000_000
    for width in (390, 1280):
        said = seen_by_a_browser(tmp_path, text, width)
        print(f"{width} pixels: {said['ready']:.0f} ms, {len(text.encode()):,} bytes")
        assert said["ready"] < 2000, "milliseconds from asking for the page to its second frame"
        assert said["wide"] <= said["room"] == width, "nothing sticks out at the side"
        assert said["asked"] == []
        assert said["before"] == 1200
        numbers = [float(value) for value in said["up"] if value != "nan"]
        assert numbers == sorted(numbers)
        assert len(numbers) == 1180
        assert [float(value) for value in said["down"] if value != "nan"] == numbers[::-1]
        assert {*said["up"][1180:], *said["down"][1180:]} == {"nan"}, "what is no number comes last"
