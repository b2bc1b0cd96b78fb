"""Speed and memory as ratios, each taken in one process or pair of runs: ``make bench``."""
