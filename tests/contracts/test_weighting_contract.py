from cosim.learning.weighting import Weighting
from cosim.testing import contract

globals().update(contract(Weighting))
