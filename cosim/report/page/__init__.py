"""Pages to look at in a browser: one self-contained HTML file each, no network."""

from cosim.report.page.comparison_page import write_comparison_page
from cosim.report.page.run_page import write_page

__all__ = ["write_comparison_page", "write_page"]
