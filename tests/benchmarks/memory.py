"""The memory of this process."""

from __future__ import annotations

import gc
import os
import resource
import sys
from pathlib import Path


def resident() -> int:
    """Bytes of memory that are resident now; where a system does not tell, that ever were."""
    gc.collect()
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
