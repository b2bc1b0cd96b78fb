"""What every part of a family keeps, one module for each family; see :func:`cosim.testing.contract`."""
