from cosim.radio.access import Access
from cosim.testing import contract

globals().update(contract(Access))
