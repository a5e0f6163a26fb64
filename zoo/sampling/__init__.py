"""Noise keyed by a seed, schedules, dialects, and samplers as tables: pure functions in NumPy."""
