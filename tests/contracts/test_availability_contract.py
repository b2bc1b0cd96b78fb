from cosim.compute.availability import Availability
from cosim.testing import contract

globals().update(contract(Availability))
