"""Families: one file each, with its network, its graphs and its table of checkpoints."""
