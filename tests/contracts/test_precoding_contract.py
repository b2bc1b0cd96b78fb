from cosim.radio.precoding import Precoding
from cosim.testing import contract

globals().update(contract(Precoding))
