from cosim.radio.duplex import Duplex
from cosim.testing import contract

globals().update(contract(Duplex))
