from cosim.learning.local_rule import LocalRule
from cosim.testing import contract

globals().update(contract(LocalRule))
