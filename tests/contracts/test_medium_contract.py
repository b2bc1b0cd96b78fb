from cosim.radio.medium import Medium
from cosim.testing import contract

globals().update(contract(Medium))
