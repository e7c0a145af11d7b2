"""Searches and ladders: the long measurements, each behind a named command that records it.

`python -m dlrm_mini measure NAME` runs one and writes `data/measurements/`; the chapters read that
and run a small part of it again. The functions that fit one rung are shared by ladder, chapter and
benchmark, so that all three measure the same thing.
"""
