from cosim.learning.update import UpdateStep
from cosim.testing import contract

globals().update(contract(UpdateStep))
