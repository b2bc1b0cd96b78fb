"""A page put together from its parts: one file that asks nothing of anybody."""

import html
import json
from collections.abc import Iterable, Sequence
from importlib.resources import files
from string import Template
from typing import Any

_ASSETS = files("cosim.report.page") / "assets"
_SHOWS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
_DRAWS = f"{_SHOWS} blob:; script-src 'unsafe-inline'"
_LIBRARY = ("uPlot.iife.min.js", "uPlot.min.css", "uPlot-LICENSE")


def document(
    template: str, title: str, scripts: list[str], content: dict[str, Any], styles: Sequence[str] = ()
) -> str:
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
    styles
        Its own style sheets among the assets, after those of all pages.
    """
    library, library_style, licence = (asset(f"vendor/{name}") for name in _LIBRARY)
    return filled(
        template,
        head=head(title, [library_style, asset("shared/page.css"), *map(asset, styles)], _DRAWS),
        library=f"/*\n{licence.strip()}\n*/\n{library}",
        scripts=filled(
            "shared/scripts.html",
            content=script_json(content),
            script="\n".join(asset(script) for script in scripts),
        ),
    )


def head(title: str, styles: Iterable[str], policy: str = _SHOWS) -> str:
    """Return the head of a page.

    Parameters
    ----------
    title
        Shown by the browser; any text.
    styles
        Style sheets, in order.
    policy
        What the page may load: nothing from elsewhere, and scripts of its own only where it has some.
    """
    return filled("shared/head.html", policy=policy, title=html.escape(title), style="\n".join(styles))


def filled(template: str, **values: str) -> str:
    """Return a template among the assets with these values in it; no value is taken for a template."""
    return Template(asset(template)).substitute(values)


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
