"""Pages that are written from the code: the parts and their settings, and the command line."""

import io
from contextlib import redirect_stdout
from pathlib import Path

from sphinx.application import Sphinx
from typer.main import get_command

from cosim.cli.app import app as commands
from cosim.cli.listing import listing

HERE = Path(__file__).parent / "reference"


def setup(app: Sphinx) -> dict[str, bool]:
    """Write the pages before Sphinx looks for sources."""
    app.connect("config-inited", lambda *_: write())
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def write() -> None:
    """Write both pages."""
    (HERE / "parts.md").write_text(parts_page(), encoding="utf-8")
    (HERE / "commands.md").write_text(commands_page(), encoding="utf-8")


def parts_page() -> str:
    """Return every family with its kinds and their settings, as `cosim parts` lists them."""
    lines = [
        "# Parts and settings",
        "",
        "Every kind that a scenario can use, by family, with its settings.",
        "`cosim parts FAMILY` prints one family, such as `cosim parts fading`.",
    ]
    block: list[str] = []
    for line in listing(None):
        if line and not line.startswith(" "):
            lines += [*_fenced(block), "", f"## {line.strip()}", ""]
            block = []
        else:
            block.append(line)
    return "\n".join([*lines, *_fenced(block), ""])


def _fenced(block: list[str]) -> list[str]:
    return ["```text", *block, "```"] if any(line.strip() for line in block) else []


def commands_page() -> str:
    """Return what `--help` says of every command."""
    whole = get_command(commands)
    lines = ["# Command line", "", "What `cosim COMMAND --help` says.", ""]
    for name, command in sorted(whole.commands.items()):
        with redirect_stdout(io.StringIO()):
            context = command.make_context(f"cosim {name}", ["x"] * 9, resilient_parsing=True)
        lines += [f"## cosim {name}", "", "```text", command.get_help(context).rstrip(), "```", ""]
    return "\n".join(lines)
