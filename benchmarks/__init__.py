"""This project beside its peers: `python -m benchmarks` runs everything, one module a benchmark."""
