from cosim.radio.surface import Surface
from cosim.testing import contract

globals().update(contract(Surface))
