"""Data sets: fetched and verified, split, and cut into batches.

`movielens.load()` is where every chapter starts. This file imports nothing, so that fetching
the data does not have to wait for torch.
"""
