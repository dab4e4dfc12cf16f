"""One CPU thread: bytes are promised for one thread count, and two busy test runs do not fight."""

import os

# Before torch is imported, which this file must not do: some tests watch that nothing else does.
os.environ.setdefault("OMP_NUM_THREADS", "1")
