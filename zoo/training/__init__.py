"""Training recipes: one file for each kind of training, and the loop that runs them all."""
