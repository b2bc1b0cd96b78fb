from cosim.radio.interference import Interference
from cosim.testing import contract

globals().update(contract(Interference))
