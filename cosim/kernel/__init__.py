"""Simulated time: the clock, a job that drains at a changing rate, and a queue in order of arrival."""
