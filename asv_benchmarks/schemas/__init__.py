"""The schemas of the benchmarks, and what flatc generated from them."""
