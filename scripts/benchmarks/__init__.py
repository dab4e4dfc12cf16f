"""The workloads of scripts/bench.py, one module each."""
