"""One part of every family of cosim."""
