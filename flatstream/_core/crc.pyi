# Kernels for the other compiled modules; Python sees nothing of them.
