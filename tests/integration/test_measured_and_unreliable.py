"""The page on traces, devices, absent clients and transport: its scenarios load and are fine."""

import re
from pathlib import Path

import pytest

from cosim.scenario.build import check
from cosim.scenario.load import read_dict, read_toml, to_dict

PAGE = (Path(__file__).parents[2] / "docs/guide/measured_and_unreliable.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL)
FILES = dict(
    zip(("phones.csv", "devices.csv"), (text for kind, text in BLOCKS if kind == "text"), strict=True)
)


@pytest.mark.parametrize("fragment", [text for kind, text in BLOCKS if kind == "toml"])
def test_a_fragment_of_the_page_is_a_scenario(fragment, tmp_path, monkeypatch, tiny_scenario):
    monkeypatch.chdir(tmp_path)
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "fragment.toml").write_text(fragment)
    given, tiny = read_toml(tmp_path / "fragment.toml"), to_dict(tiny_scenario())
    scenario = read_dict({"name": "page", "model": tiny["model"], "data": tiny["data"]} | given, "page")
    assert check(scenario) == []
