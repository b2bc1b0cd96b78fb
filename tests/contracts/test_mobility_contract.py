from cosim.radio.mobility import Mobility
from cosim.testing import contract

globals().update(contract(Mobility))
