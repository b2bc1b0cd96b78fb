"""The value plane: computations by key. It knows neither radio nor what is learned."""
