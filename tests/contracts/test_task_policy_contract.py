from cosim.schemes.task_policy import TaskPolicy
from cosim.testing import contract

globals().update(contract(TaskPolicy))
