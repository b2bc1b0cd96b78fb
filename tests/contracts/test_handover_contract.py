from cosim.learning.handover import Handover
from cosim.testing import contract

globals().update(contract(Handover))
