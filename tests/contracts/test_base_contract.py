from cosim.learning.base import Base
from cosim.testing import contract

globals().update(contract(Base))
