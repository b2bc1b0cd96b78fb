"""What a device can do: time and energy for an amount of FLOP, a queue, a memory."""
