from cosim.learning.optimizer import Optimizer
from cosim.testing import contract

globals().update(contract(Optimizer))
