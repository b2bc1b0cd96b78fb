"""A page put together from its parts: one file that asks nothing of anybody."""

import html
import json
from importlib.resources import files
from string import Template
from typing import Any

_ASSETS = files("cosim.report.page") / "assets"
_LIBRARY = ("uPlot.iife.min.js", "uPlot.min.css", "uPlot-LICENSE")


def document(template: str, title: str, scripts: list[str], content: dict[str, Any]) -> str:
    """Return a page as text.

    Parameters
    ----------
    template
        Its HTML file among the assets.
    title
        Shown by the browser; any text.
    scripts
        Its own scripts, in order, sharing one scope.
    content
        What it shows; may hold any text, which stays text.
    """
    library, library_style, licence = (asset(f"vendor/{name}") for name in _LIBRARY)
    return Template(asset(template)).substitute(
        title=html.escape(title),
        style=f"{library_style}\n{asset('shared/page.css')}",
        content=script_json(content),
        library=f"/*\n{licence.strip()}\n*/\n{library}",
        script="\n".join(asset(script) for script in scripts),
    )


def script_json(content: dict[str, Any]) -> str:
    r"""Return values as JSON that may be in a script element: no text in it can end the element.

    Examples
    --------
    >>> script_json({"name": "</script><!--"})
    '{"name":"\\u003c/script\\u003e\\u003c!--"}'
    """
    text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def asset(name: str) -> str:
    """Return a file of the assets."""
    return (_ASSETS / name).read_text(encoding="utf-8")
