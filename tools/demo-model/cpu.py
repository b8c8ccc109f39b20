"""Makes a run of JAX cheap on a shared machine: the CPU only, one thread, and memory that is kept once it was had.

glibc gives each large buffer back to the system and takes it again in every step; without this half of the time goes there.
"""

import os
import sys

WANTED = {
    "JAX_PLATFORMS": "cpu",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    "MALLOC_MMAP_THRESHOLD_": str(1 << 32),
    "MALLOC_TRIM_THRESHOLD_": str(1 << 40),
    "MALLOC_ARENA_MAX": "1",
}


def settle():
    """Starts the program again with the right environment where it is not yet right. Call it before JAX is imported."""
    if any(os.environ.get(name) != value for name, value in WANTED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | WANTED)
