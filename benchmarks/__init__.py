"""This project beside its baselines, in one run: `make bench`."""
