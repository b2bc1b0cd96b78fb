from cosim.radio.fading import Fading
from cosim.testing import contract

globals().update(contract(Fading))
