"""The only importers of Ray."""

from xmadapter.distributed.encode import EncodeSummary, run_encode
from xmadapter.distributed.sweep import SweepSummary, run_sweep

__all__ = ["EncodeSummary", "SweepSummary", "run_encode", "run_sweep"]
