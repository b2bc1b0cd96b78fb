from cosim.learning.data import DataSource
from cosim.testing import contract

globals().update(contract(DataSource))
