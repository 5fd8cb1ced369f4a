"""The benchmarks: asv runs them for their history, `make bench` for one table of the goals, the tests once each.

docs/benchmarks.md says what is in them and how to read their results.
"""
