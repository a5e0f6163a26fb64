"""What a generator takes and gives, to everything downstream: NumPy only, no family's name, no torch."""
