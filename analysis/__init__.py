"""One package or script per question asked of cosim; each a command of its own."""
