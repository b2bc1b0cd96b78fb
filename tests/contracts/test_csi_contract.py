from cosim.radio.csi import Csi
from cosim.testing import contract

globals().update(contract(Csi))
