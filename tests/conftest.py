"""One CPU thread: bytes are promised for one thread count, and two busy test runs do not fight."""

import os

from hypothesis import HealthCheck, settings

# Before torch is imported, which this file must not do: some tests watch that nothing else does.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# How long an example takes to be drawn or tried says how busy the machine is, and nothing about the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
