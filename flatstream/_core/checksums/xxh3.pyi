from typing_extensions import Buffer

# The C function that calculates XXH3-64; "" if the xxhash package's public function does.
KERNEL_NAME: str

# `data`: contiguous memory of unsigned bytes.
def xxh3_64(data: Buffer) -> int: ...
