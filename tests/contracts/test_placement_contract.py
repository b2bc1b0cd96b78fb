from cosim.radio.placement import Placement
from cosim.testing import contract

globals().update(contract(Placement))
