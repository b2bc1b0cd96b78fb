"""The scenario: its file, loading and changing it, and building the world from it."""
