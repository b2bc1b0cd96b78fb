"""What transport blocks in slots do to delays, and to the order of allocators."""
