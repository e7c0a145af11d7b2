"""The fused embedding path: look up and pool all tables at once, update only the rows touched.

The same two functions three times: `reference` in plain torch, `cpu` in numba, `gpu` in Triton. The
tables are stacked in one matrix, so that a step is one call however many tables there are.
"""
