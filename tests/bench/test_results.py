import dataclasses
import math
import re
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxopt_study.bench import baseline, roofline, words
from jaxopt_study.bench.case import Figure
from jaxopt_study.bench.claims import judge_claims, meets_claim
from jaxopt_study.bench.page import write_page
from jaxopt_study.bench.pictures import draw
from jaxopt_study.bench.results import Results, read_results, write_results
from jaxopt_study.study.protocol import StudyInputError

MACHINE = {
    "platform": "cpu",
    "cpu_model": "a <processor>",
    "cpu_count": 2,
    "python": "3.11",
    "jax": "0.10",
    "jaxlib": "0.10",
    "optax": "0.2",
    "numpy": "2",
    "peers": {"scipy": "1.17"},
}


@pytest.fixture
def results(make_row):
    rows = (
        make_row(
            contestant="jaxopt_study",
            ratio=1.0,
            figures=(Figure("copies", 13.0, at_most=12.0), Figure("<starts>", 20.0)),
        ),
        make_row(contestant="fast", ratio=0.5, size=10),
        make_row(contestant="unsteady", ratio=None, uncertainty=0.4, flops=None, bytes=None, limit=None),
        make_row(contestant="wrong", ratio=None, solved=False, error=0.3),
        make_row(case="other", contestant="slow", ratio=3.0, claimed=4.0, size=100),
    )
    limits = {"float64": roofline.Limits("float64", 1e11, 1e10)}
    return Results(rows, MACHINE, limits, "jaxopt-study bench toy", 90.0)


def test_results_come_back_as_they_were_written(tmp_path, results):
    write_results(tmp_path / "results.parquet", results)
    assert read_results(tmp_path) == results


def test_results_without_figures_are_read_too(tmp_path, results):
    import pyarrow.parquet as pq

    write_results(tmp_path / "results.parquet", results)
    pq.write_table(
        pq.read_table(tmp_path / "results.parquet").drop(["figures"]), tmp_path / "results.parquet"
    )
    rows = tuple(dataclasses.replace(row, figures=()) for row in results.rows)
    assert read_results(tmp_path) == dataclasses.replace(results, rows=rows)


@pytest.mark.parametrize("content", [None, b"", b"PAR1 nothing"])
def test_what_is_no_result_is_refused_in_a_line(tmp_path, content):
    path = tmp_path / "results.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(StudyInputError, match="no such file" if content is None else "not a result"):
        read_results(path)


def test_markdown_tells_losses_with_their_reasons_and_claims_that_fell_short(results):
    text = words.write_markdown(results, [("toy / sums / *", "It is simpler.")], "r.parquet", "command")
    assert "**It is simpler.**\n\n- toy / sums / fast: 0.5x of our time" in text
    assert "| toy / other / slow | 4x | **3x** |" in text
    assert "unsteady (± 40%)" in text
    assert "not solved" in text
    assert "| toy / sums / copies | at most 12 | **13** |" in text
    assert "- sums: copies: 13 (at most 12)\n- sums: <starts>: 20\n" in text
    assert "No reason is known yet" not in text


def test_the_same_program_meets_a_claim_is_no_loss_and_no_metric(make_row, results):
    row = make_row(contestant="optax", ratio=0.8, claimed=0.95, same_program=True)
    assert meets_claim(row)
    assert not meets_claim(dataclasses.replace(row, same_program=False))
    assert not meets_claim(dataclasses.replace(row, claimed=2.0))  # who claims more has to measure it
    assert words.losses([row]) == []
    assert baseline.metrics([row]) == {}
    text = words.write_markdown(dataclasses.replace(results, rows=(row,)), [], "r.parquet", "command")
    assert "| toy / sums / optax | 0.95x | same program (0.8x) |" in text


def test_claims_of_parts_and_of_several_cases_together(make_row):
    trio = {"contestant": "peer", "group": "all sums", "group_size": 3, "claimed_together": 2.5}
    rows = [
        make_row(case="one", ratio=2.0, **trio),
        make_row(case="one", contestant="a part", ratio=0.3, at_most=0.5),
        make_row(case="two", ratio=4.5, **trio),
        make_row(case="three", ratio=None, solved=False, **trio),
        make_row(case="more", contestant="jaxopt_study, more", ratio=1.2, at_most=1.05),
        make_row(case="nothing claimed"),
    ]
    said = [(one.name, one.claimed, one.measured, one.met) for one in judge_claims(rows)]
    assert said == [
        ("toy / one / a part", "at most 0.5x", "0.3x", True),
        ("toy / more / jaxopt_study, more", "at most 1.05x", "1.2x", False),
        ("toy / all sums / peer", "2.5x", "3x (2 of 3 cases)", True),
    ]


def test_figures_are_judged_where_something_is_claimed_of_them(make_row):
    figures = (
        Figure("losses", 13.0, at_least=8.0),
        Figure("lost", float("nan"), at_least=8.0),
        Figure("growth", 1.6, at_most=1.5),
        Figure("both", 1.0, at_least=0.9, at_most=1.1),
        Figure("nothing claimed", 0.0),
    )
    said = [
        (one.name, one.claimed, one.measured, one.met) for one in judge_claims([make_row(figures=figures)])
    ]
    assert said == [
        ("toy / sums / losses", "at least 8", "13", True),
        ("toy / sums / lost", "at least 8", "nan", False),
        ("toy / sums / growth", "at most 1.5", "1.6", False),
        ("toy / sums / both", "at least 0.9, at most 1.1", "1", True),
    ]
    said = [(one.measured, one.met) for one in judge_claims([make_row(figures=figures[:1], solved=False)])]
    assert said == [("not solved", False)]


def test_an_unsteady_ratio_meets_a_claim_that_it_is_above(make_row):
    row = make_row(contestant="peer", ratio=None, uncertainty=0.2, at_least=5.0, claimed=5.0)
    said = [(one.measured, one.met) for one in judge_claims([row, dataclasses.replace(row, claimed=6.0)])]
    assert said == [("unsteady (± 20%), at least 5x", True), ("unsteady (± 20%)", False)]
    ended = dataclasses.replace(row, ended_early=True, claimed=1.0)
    assert [(one.measured, one.met) for one in judge_claims([ended])] == [("ended early, at least 5x", True)]


@pytest.mark.parametrize("third", [[], [{"ratio": None}]], ids=["left out", "unsteady"])
def test_a_claim_of_several_cases_is_not_met_by_some_of_them(make_row, third):
    trio = {"group": "all sums", "group_size": 3, "claimed_together": 2.5}
    rows = [
        make_row(case=str(k), **{"ratio": 3.0, **more}, **trio) for k, more in enumerate([{}, {}, *third])
    ]
    assert [(one.measured, one.met) for one in judge_claims(rows)] == [("3x (2 of 3 cases)", False)]


@pytest.mark.slow
def test_page_needs_nothing_but_itself_and_escapes_what_it_shows(tmp_path, results):
    page = write_page(tmp_path, results).read_text()
    assert not re.search(r"(?:src|href)=[\"']https?:", page)
    assert "a &lt;processor&gt;" in page
    assert "<li>sums: copies: 13 (at most 12)</li><li>sums: &lt;starts&gt;: 20</li>" in page
    assert page.count("<svg") == 3  # ratios, sizes, roofline
    assert (tmp_path / "ratios_toy.png").stat().st_size > 1000


def test_the_legend_of_sizes_names_every_contestant_and_the_label_its_unit(make_row, results):
    rows = [
        make_row(contestant=name, case=f"{case}, {size}", size=size, unit=unit)
        for case, unit, names in (("a", "step", ["jaxopt_study"]), ("b", "fit", ["jaxopt_study", "late"]))
        for name in names
        for size in (10, 20)
    ]
    other = make_row(case="without a size", unit="Jacobian")
    figure = draw(dataclasses.replace(results, rows=(other, *rows)))["sizes_toy"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["jaxopt_study", "late"]
    assert figure.get_supylabel() == "seconds a step or fit"
    figure.draw_without_rendering()
    frame = figure.legends[0].get_window_extent()
    assert all(not frame.overlaps(axis.xaxis.label.get_window_extent()) for axis in figure.axes)


def test_gate_fails_on_what_got_worse_and_on_nothing_else(tmp_path, make_row):
    before = [make_row(contestant=name, ratio=2.0) for name in "abc"]
    figures = (
        Figure("losses", 13.0, at_least=8.0),
        Figure("growth", 1.1, at_most=1.5),
        Figure("both", 1.0, at_least=0.9, at_most=1.1),
        Figure("starts", 20.0),
        Figure("gone", 1.0, at_most=2.0),
    )
    before.append(make_row(contestant="jaxopt_study", ratio=1.0, error=1e-9, figures=figures))
    baseline.save(tmp_path / "b.json", before)
    now = [
        make_row(contestant="a", ratio=1.8),
        make_row(contestant="b", ratio=1.2),
        make_row(contestant="new", ratio=0.1),
        make_row(
            contestant="jaxopt_study",
            ratio=1.0,
            error=1e-3,
            figures=tuple(
                dataclasses.replace(one, value=math.nan if one.name == "gone" else 2 * one.value)
                for one in figures
            ),
        ),
    ]
    worse, compared, left_out = baseline.compare(baseline.load(tmp_path / "b.json"), now)
    assert (compared, left_out) == (8, 1)  # c was not measured
    assert baseline.compare(baseline.load(tmp_path / "b.json"), []) == ((), 0, 9)
    assert [line.split(":")[0] for line in worse] == [
        "toy / sums / b / time over ours",
        "toy / sums / jaxopt_study / error",
        "toy / sums / growth, at most",
        "toy / sums / both, at most",
        "toy / sums / gone, at most",
    ]


def test_a_baseline_that_is_none_is_refused(tmp_path):
    (tmp_path / "b.json").write_text('[{"name": 1}]')
    with pytest.raises(StudyInputError, match="not a baseline"):
        baseline.load(tmp_path / "b.json")


def test_demands_of_a_product_are_those_that_one_counts_by_hand():
    import jax

    n = 64
    compiled = jax.jit(lambda a, b: a @ b).lower(jnp.ones((n, n)), jnp.ones((n, n))).compile()
    asked = roofline.demands(compiled)
    size = 4 if jnp.ones(1).dtype == jnp.float32 else 8
    assert asked.flops == pytest.approx(2 * n**3, rel=0.05)
    assert asked.peak >= 3 * n * n * size
    limits = roofline.Limits("float32", 1e9, 1e30)
    assert roofline.share_of_limit(asked, asked.flops / 1e9, limits) == pytest.approx(1.0)


def test_own_variants_are_no_losses(make_row):
    rows = [make_row(contestant="jaxopt_study, delayed", ratio=0.5), make_row(contestant="x", ratio=0.97)]
    assert words.losses(rows) == []
    assert np.isfinite(rows[0].seconds)


ROOT = Path(__file__).parents[2]


def test_benchmarks_md_is_what_the_committed_results_say():
    path = Path("benchmarks/cpu-2-cores.parquet")
    results = read_results(ROOT / path)
    reasons = words.read_reasons(ROOT / "benchmarks" / "reasons.toml")
    command = f"jaxopt-study bench --results {path.as_posix()} --write BENCHMARKS.md"
    text = words.write_markdown(results, reasons, path.as_posix(), command)
    assert (ROOT / "BENCHMARKS.md").read_text(encoding="utf-8") == text


def test_every_loss_that_is_committed_has_a_reason():
    results = read_results(ROOT / "benchmarks" / "cpu-2-cores.parquet")
    reasons = words.read_reasons(ROOT / "benchmarks" / "reasons.toml")
    assert [row.key for row in words.losses(results.rows) if not words.reason(row, reasons)] == []


def test_committed_baseline_is_of_the_committed_results():
    results = read_results(ROOT / "benchmarks" / "cpu-2-cores.parquet")
    found = baseline.compare(baseline.load(ROOT / "benchmarks" / "baseline.json"), results.rows)
    assert found == ((), len(baseline.metrics(results.rows)), 0)
