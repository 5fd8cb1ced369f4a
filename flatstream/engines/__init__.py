"""Datasets in engines of many processes and machines: one module each for Dask, Ray and Spark."""

__all__: list[str] = []
