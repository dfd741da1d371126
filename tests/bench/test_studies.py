from types import SimpleNamespace

import pytest

from jaxopt_study.bench.case import OURS, measure
from jaxopt_study.bench.suites import studies
from jaxopt_study.study.config_file import load_configs, read_config_file
from jaxopt_study.study.run import run_study


def test_of_a_run_that_was_interrupted_nothing_is_told(monkeypatch):
    cut = SimpleNamespace(interrupted=True, records={"a": None})
    monkeypatch.setattr(studies, "run_study", lambda *_, **__: cut)
    with pytest.raises(KeyboardInterrupt):
        studies._run(*load_configs(read_config_file(studies.CONFIGS / "rosenbrock_network.toml")))


@pytest.mark.slow
def test_figures_are_what_the_studies_own_summary_says(monkeypatch, tmp_path):
    study, configs = load_configs(read_config_file(studies.CONFIGS / "rosenbrock_network.toml"))
    few = {"starts": 2, "max_steps": 20}
    small = {label: type(config)(**{**vars(config), **few}) for label, config in configs.items()}
    monkeypatch.setattr(studies, "load_configs", lambda file: (study, small))
    planned = next(case for case in studies.cases() if studies.LOSSES in case.figures)
    ours, adam = measure("study", planned, {}, lambda name: True)
    told = run_study(study, small, tmp_path, quiet=True, plots=False).summary
    assert (ours.contestant, adam.contestant) == (OURS, "adam")
    assert [one.value for one in ours.figures] == [told["loss_ratio_median"]]
    assert ours.figures[0].at_least == 8
    assert ours.first_seconds > ours.seconds  # it compiles
