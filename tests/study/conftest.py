"""Where the toy studies are, and a TOML for them."""

import json
from pathlib import Path

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
