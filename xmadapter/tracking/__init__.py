"""Tracking: from the ledger to MLflow, and the models of its registry. The only importers of mlflow."""

from xmadapter.tracking.client import tracking_uri
from xmadapter.tracking.registry import Champion, Registry
from xmadapter.tracking.tracker import Tracker

__all__ = ["Champion", "Registry", "Tracker", "tracking_uri"]
