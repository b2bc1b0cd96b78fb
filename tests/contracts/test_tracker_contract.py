from cosim.testing import contract
from cosim.tracking import Tracker

globals().update(contract(Tracker))
