# Kernels for the other compiled modules. Python sees only which of them were chosen.

# "vpclmul", "pclmul", "sse42" or "portable"; the environment variable FLATSTREAM_CRC asks for one.
PATH: str

def available_paths() -> list[str]: ...
