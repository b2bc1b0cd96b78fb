"""FLOP of a pass, played with booleans in the place of tensors: whether a gradient flows into each."""


class Tape:
    """Counts matrix products there and back.

    Attributes
    ----------
    forward, backward
        FLOP so far.
    """

    def __init__(self) -> None:
        self.forward = 0
        self.backward = 0

    def dense(self, rows: int, d_in: int, d_out: int, x: bool, is_trained: bool = False) -> bool:
        """Charge a linear layer; return whether a gradient flows into its output."""
        return self.product(2 * rows * d_in * d_out, x, is_trained)

    def product(self, flop: int, left: bool, right: bool) -> bool:
        """Charge a matrix product; its backward pass is one more for each factor with a gradient."""
        self.forward += flop
        self.backward += flop * (left + right)
        return left or right
