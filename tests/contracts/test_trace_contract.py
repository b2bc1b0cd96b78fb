from cosim.radio.trace import Trace
from cosim.testing import contract

globals().update(contract(Trace))
