from cosim.learning.trainable import Trainable
from cosim.testing import contract

globals().update(contract(Trainable))
