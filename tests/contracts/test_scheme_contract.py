from cosim.schemes import Scheme
from cosim.testing import contract

globals().update(contract(Scheme))
