"""Where the toy studies are, and a TOML for them."""

import json
import math
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

TOYS = Path(__file__).parent / "toys"


@pytest.fixture
def write_toml(tmp_path):
    """Write `configs/<study>.toml` below the test's folder, for a toy study."""

    def write(text="", study=TOYS / "bowl.py"):
        path = tmp_path / "configs" / f"{study.stem}.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f'study = "{study.as_posix()}"\n{text}', encoding="utf-8")
        return path

    return write


@pytest.fixture
def write_study(tmp_path):
    """Write a study's module from the bowl's, with some of its text replaced or appended."""

    def write(replace=(), append="", name="other"):
        text = (TOYS / "bowl.py").read_text(encoding="utf-8")
        for old, new in replace:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"{name}.py"
        path.write_text(text + append, encoding="utf-8")
        return path

    return write


@pytest.fixture
def only_record(tmp_path):
    """The one folder below `runs` of the test's folder, and its result.json, parsed strictly."""

    def find():
        (folder,) = (tmp_path / "runs").iterdir()

        def refuse(constant):
            raise AssertionError(f"{constant} is not strict JSON")

        text = (folder / "result.json").read_text(encoding="utf-8")
        return folder, json.loads(text, parse_constant=refuse)

    return find


@pytest.fixture(scope="session")
def write_sweep():
    """Write a sweep's record by hand: `write_sweep(folder)`."""
    return sweep_record


@pytest.fixture(scope="session")
def write_run():
    """Write a run's record by hand: `write_run(folder)`."""
    return run_record


def sweep_record(folder, widths=(5, 10, 20), rates=20, seeds=20, steps=5):
    """A sweep's record; its value is a closed form, but NaN for one rate and width."""
    folder.mkdir(parents=True)
    rate, points, traces = np.geomspace(1e-4, 1e-1, rates), [], []
    for width in widths:
        for learning_rate in rate:
            for seed in range(seeds):
                value = 1e-3 + width * abs(math.log10(learning_rate) + 2) + 0.01 * seed
                value = math.nan if (width, learning_rate) == (widths[0], rate[-1]) else value
                point = len(points)
                ended = "NON_FINITE" if math.isnan(value) else "OUT_OF_STEPS"
                points.append(
                    {"point": point, "variant": "adam", "lane": 0, "hidden": [width]}
                    | {
                        "learning_rate": learning_rate,
                        "seed": seed,
                        "status": ended,
                        "num_steps": 1000,
                        "value": value,
                        "values.validation": 2 * value,
                        "group": width,
                        "job": point // 16,
                    }
                )
                for step in range(steps):
                    traces.append((point, "adam", 0, step, value * (1 + 1 / (1 + step))))
    table = pa.Table.from_pylist(points)
    pq.write_table(table, folder / "points.parquet")
    names = ("point", "variant", "lane", "step", "loss")
    pq.write_table(
        pa.table(dict(zip(names, map(list, zip(*traces, strict=True)), strict=True))),
        folder / "trace.parquet",
    )
    result = {
        "study": "toy", "title": "A toy <b>& more", "kind": "sweep", "created": "2026-01-02T03:04:05+00:00",
        "version": "0", "axes": {"hidden": [], "learning_rate": {}, "seed": {}},
        "counts": {"points": len(points), "groups": len(widths), "status": {"OUT_OF_STEPS": len(points)}},
        "timing": {"compile_seconds": 1.0, "wall_seconds": 61.0}, "environment": {"device_kind": "cpu"},
    }  # fmt: skip
    (folder / "result.json").write_text(json.dumps(result))
    (folder / "config.toml").write_text('study = "x.py"\n[variants.adam]\nseed = 0\n')
    return folder


def run_record(folder, scale=1.0, seed=0):
    """A run's record with two variants, lanes, and a path."""
    folder.mkdir(parents=True)
    rows = [
        {"variant": variant, "lane": lane, "step": step}
        | {"loss": scale * 0.5**step, "a": 1.0 * step, "b": lane - 0.5 * step}
        for variant in ("adam", "newton") for lane in range(3) for step in range(8)
    ]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), folder / "trace.parquet")
    variant = {
        "status": ["TARGET_REACHED"] * 2 + ["STALLED"],
        "num_steps": [7, 7, 7],
        "value": [scale, 2 * scale, "NaN"],
        "values": {"a": [7.0] * 3, "b": [0.0] * 3},
        "timing": {"compile_seconds": 1.5, "run_seconds": 0.25},
        "dtype": "float64",
    }
    variants = {"adam": variant, "newton": variant}
    result = {"study": "toy", "title": "A toy", "variants": variants, "environment": {"jax": "1"}}
    (folder / "result.json").write_text(json.dumps(result))
    config = f"seed = {seed}\nsurface = [1, 2]\n"
    tables = [f'[variants.{name}]\nmethod = "{name}"\n{config}' for name in variants]
    (folder / "config.toml").write_text('study = "x.py"\n' + "".join(tables))
    return folder
