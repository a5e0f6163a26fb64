"""The store against other tools: what a pull takes."""
