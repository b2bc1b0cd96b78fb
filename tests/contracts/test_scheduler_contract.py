from cosim.radio.scheduler import Scheduler
from cosim.testing import contract

globals().update(contract(Scheduler))
