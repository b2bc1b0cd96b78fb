"""The scenario: its file, loading and changing it, and building the world from it.

A program that has a scenario gets messages as they are meant to be: values in them
are shortened, and parts of other packages that cannot be used are named. The
modules that compute know neither, so that no stored value depends on them.
"""

from cosim.errors import quote_with
from cosim.parts import on_left_out
from cosim.plugins import warn_of
from cosim.words import short

quote_with(short)
on_left_out(warn_of)
