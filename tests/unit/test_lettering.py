"""Names in figures stand for themselves, in any letters, and matplotlib has nothing to say about them."""

import io
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cosim.cli import answer
from cosim.report.lettering import legend_label, lettered
from cosim.runs import run

PACKAGE = Path(__file__).parents[2] / "cosim"
ODD = ("$x_$ a$b$", r"\$ \frac", "\u8a9e\u97f3", "\U0001f600", "_under", "\x1b[31m", "\u202egnp", "100 % & #")


def drawn(name):
    """Return a figure that has a name in every role, and its bytes."""
    with lettered({}):
        figure = Figure(figsize=(4.0, 3.0), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.plot([0, 1], [1, 2], label=legend_label(name))
        axes.set_title(name)
        axes.set_xticks([0, 1], [name, name])
        axes.annotate(name, (0, 1))
        axes.set_ylabel(name)
        legend = axes.legend()
        content = io.BytesIO()
        figure.savefig(content, format="png")
    return axes, legend, content.getvalue()


@pytest.mark.parametrize("name", ODD)
def test_a_name_is_drawn_letter_by_letter(name):
    """Warnings are errors in tests: a library's own about letters or formulas would fail this."""
    axes, legend, content = drawn(name)
    assert content.startswith(b"\x89PNG")
    texts = [axes.title, axes.yaxis.label, *axes.get_xticklabels(), *axes.texts, *legend.get_texts()]
    assert [text.get_text().strip() for text in texts] == [name] * 6
    assert not any(text.get_parse_math() for text in texts)


def test_figures_are_made_by_what_takes_names_literally():
    makers = [file for file in PACKAGE.rglob("*.py") if "rc_context" in file.read_text(encoding="utf-8")]
    assert [file.name for file in makers] == ["lettering.py"]
    for file in PACKAGE.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "savefig(" not in text or file.name == "lettering.py" or "with lettered(" in text


def test_a_run_of_an_odd_name_is_shown_everywhere(tiny_scenario, tmp_path, capsys):
    name = "$x_$ \u8a9e\U0001f600 [red]a\x1b[31m\u202e </script><script>alert(1)</script>".replace(
        "/", "\u2215"
    )
    folder = run(tiny_scenario({"name": name, "scheme.num_rounds": 1}), tmp_path / "run", timing_only=True)
    views = [f"--{kind}={tmp_path / f'a.{kind}'}" for kind in ("png", "html")]
    assert answer(["timeline", str(folder), *views]) == 0
    assert answer(["compare", str(folder), str(folder)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert r"[red]a\x1b[31m\u202e" in out
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
