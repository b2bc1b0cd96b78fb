"""No name becomes markup of a page: not in its head, not in its content, and not by its scripts."""

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from cosim.report.page.document import document

ASSETS = Path(__file__).parents[2] / "cosim" / "report" / "page" / "assets"
NASTY = "</title></script><script>alert(1)</script><!--<img src=x onerror=alert(1)> ]]> \u2028 ' \" & $x ${x}"
OWN_SCRIPTS = [file for file in sorted(ASSETS.rglob("*.js")) if "vendor" not in file.parts]
MARKUP_SINKS = (
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|srcdoc|javascript:"
)


class Elements(HTMLParser):
    """The elements of a page in their order, with their attributes, and the text of its title."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, tuple[tuple[str, str | None], ...]]] = []
        self.title = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, tuple(attrs)))

    def handle_data(self, data):
        if self.found and self.found[-1][0] == "title":
            self.title += data


def page(template, name):
    content = {"run": {"name": name}, "actors": [name], "cases": [{"label": name, name: [name]}]}
    return document(template, name, [], content)


@pytest.mark.parametrize("template", ["run/page.html", "comparison/page.html", "study/page.html"])
def test_a_page_has_the_same_elements_whatever_its_names_are(template):
    plain, nasty = Elements(page(template, "client-0")), Elements(page(template, NASTY))
    assert nasty.found == plain.found
    assert nasty.title.strip().startswith(NASTY)


@pytest.mark.parametrize("script", OWN_SCRIPTS, ids=lambda file: f"{file.parent.name}-{file.stem}")
def test_scripts_put_names_into_a_page_as_text_only(script):
    assert re.findall(MARKUP_SINKS, script.read_text(encoding="utf-8")) == []
