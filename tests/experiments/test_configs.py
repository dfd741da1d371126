"""Every config runs from the command line to a whole record with its pictures."""

import json
from pathlib import Path

import pytest

from jaxopt_study import cli

ROOT = Path(__file__).parents[2]
SMALL = {
    "rosenbrock_fit": (["--max-steps", "30"], {"paths.png", "loss.png"}),
    "rosenbrock_network": (["--max-steps", "8", "--starts", "2", "--points", "50"], {"loss.png"}),
    "rosenbrock_network_gauss_newton": (["--starts", "2", "--points", "50"], {"loss.png"}),
    "rosenbrock_network_sweep": (["--max-steps", "8", "--points", "50"], {"loss.png"}),
    "enzyme_kinetics": ([], {"curves.png"}),
    "line_gradient": ([], {"line.png"}),
    "quadratic_roots": ([], {"paths.png"}),
    "quadratic_roots_map": (["--size", "6", "--max-steps", "60"], {"maps.png", "answers.png"}),
    "newton_fractal": (["--size", "6"], {"basins.png"}),
    "tanh_derivatives": (
        ["--budget", "0", "--points", "10", "--measured", "2", "3"],
        {"derivatives.png", "cost.png"},
    ),
    "sine_polynomial": (["--max-steps", "8", "--points", "50"], {"loss.png", "curves.png"}),
    "optimizer_profiles": (
        ["--problems", "1", "--max-evaluations", "200"],
        {"performance_by_evaluations.png", "performance_by_seconds.png", "data_by_evaluations.png"},
    ),
    "deep_network": (["--max-steps", "8", "--starts", "2"], {"loss.png"}),
    "sine_ode": ([], {"sine.png"}),
    "linear_flow": (["--max-steps", "3"], {"loss.png"}),
    "spiral": (["--max-steps", "3", "--pieces", "4"], {"spiral.png"}),
    "gaussian_spots": (["--spots", "400", "--classes", "2"], {"precision.png", "ratio_to_bound.png"}),
    "lynx_hare": ([], {"populations.png", "rates.png"}),
    "stiff_kinetics": (["--points", "8"], {"concentrations.png", "rates.png"}),
    "two_circles": (["--points", "20", "--grid", "8", "--max-steps", "5"], {"flow.png", "loss.png"}),
}
QUICK = ("line_gradient", "enzyme_kinetics")


@pytest.mark.parametrize(
    ("name", "flags", "pictures"),
    [pytest.param(n, *rest, marks=() if n in QUICK else pytest.mark.slow) for n, rest in SMALL.items()],
    ids=SMALL,
)
def test_a_config_runs_to_a_whole_record(name, flags, pictures, tmp_path):
    config = ROOT / "configs" / f"{name}.toml"
    assert cli.main(["run", str(config), "--quiet", "--out", str(tmp_path), *flags]) == 0
    (folder,) = tmp_path.iterdir()
    files = {path.name for path in folder.iterdir()}
    assert files == {"config.toml", "result.json", "trace.parquet"} | pictures
    assert json.loads((folder / "result.json").read_text())["variants"]


def test_every_config_is_tested():
    assert {path.stem for path in (ROOT / "configs").glob("*.toml")} == set(SMALL)
