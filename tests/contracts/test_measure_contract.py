from cosim.studies.measures import Measure
from cosim.testing import contract

globals().update(contract(Measure))
