"""The benchmarks: asv records their history, `make bench` prints a table of the goals, the tests run each once.

docs/benchmarks.md describes them and how to read their results.
"""
