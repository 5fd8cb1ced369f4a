# The C function that calculates XXH3-64; "" if the xxhash package's public function does.
KERNEL_NAME: str
