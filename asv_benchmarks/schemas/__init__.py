"""The schemas of the benchmarks, and the code that flatc generated from them."""
