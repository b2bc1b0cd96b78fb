from cosim.learning.partition import Partition
from cosim.testing import contract

globals().update(contract(Partition))
