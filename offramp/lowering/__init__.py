"""From modules to programs of kernels: what is lowered runs in C, everything else as it is written."""
