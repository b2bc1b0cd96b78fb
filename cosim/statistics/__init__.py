"""How sure a number is: intervals, differences, effects, indices of sensitivity; numbers in, numbers out."""
