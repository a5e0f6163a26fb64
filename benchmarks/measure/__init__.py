"""How fast and how good: cells of a generator, a setting and a runtime, to records."""
