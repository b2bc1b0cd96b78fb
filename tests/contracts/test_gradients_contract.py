from cosim.learning.gradients import Gradients
from cosim.testing import contract

globals().update(contract(Gradients))
