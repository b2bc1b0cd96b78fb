from cosim.radio.shadowing import Shadowing
from cosim.testing import contract

globals().update(contract(Shadowing))
