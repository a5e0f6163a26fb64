"""Data sets: one file each, real files, verified by digest."""
