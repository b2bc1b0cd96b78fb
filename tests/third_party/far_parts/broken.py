"""A part that needs a library which is not installed."""

import far_library_that_nobody_has as library


class Broken(library.Part):
    """Never made."""
