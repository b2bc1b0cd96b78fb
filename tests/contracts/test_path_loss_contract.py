from cosim.radio.path_loss import PathLoss
from cosim.testing import contract

globals().update(contract(PathLoss))
