"""What allocators compute with: pure functions over plain arrays."""
