"""How the documentation is built: Sphinx with MyST; pages with code cells are executed."""

import os
import sys
import tempfile
from pathlib import Path

from cosim.distribution import own_version

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

project = "cosim"
author = "the cosim authors"
copyright = "the cosim authors, Apache-2.0"
release = own_version()

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "equations",
    "generated",
]
exclude_patterns = ["_build", "jupyter_execute", "**/.ipynb_checkpoints"]
nitpicky = True
nitpick_ignore_regex = [("py:.*", r".*")]  # types of other projects; their inventories are on the network
suppress_warnings = [
    "mystnb.unknown_mime_type",
    "myst-nb.lexer",  # of cells that are not executed
]

myst_enable_extensions = ["colon_fence", "dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
# Each build executes every page in a folder of its own, with a store that dies with the build.
os.environ["COSIM_STORE"] = tempfile.mkdtemp(prefix="cosim-docs-")
nb_execution_mode = "force"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_execution_in_temp = True
nb_merge_streams = True

autodoc_typehints = "description"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True

html_theme = "furo"
html_title = "cosim"
html_copy_source = False
html_static_path = ["_static"]
html_css_files = ["cosim.css"]
html_math_renderer = "mathml"
