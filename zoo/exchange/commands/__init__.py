"""The commands of `zoo`, a file for each group; `zoo/cli.py` joins them."""
