"""How good any decision could be: a bound for every run, and the searches behind ``exact``."""
