from cosim.radio.rate import RateModel
from cosim.testing import contract

globals().update(contract(RateModel))
