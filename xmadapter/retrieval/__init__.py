"""Sweeps over adapters inside an encoder, on images and their captions: trial, final test, bundle."""

from xmadapter.retrieval.bundle import (
    RetrievalBundle,
    export_retrieval,
    is_retrieval_bundle,
    load_retrieval_bundle,
)
from xmadapter.retrieval.final import KS, RetrievalFinal, RetrievalTest, final_retrieval, ranks_table
from xmadapter.retrieval.model import RetrievalModel, retrieval_model
from xmadapter.retrieval.sides import Sides, all_rows
from xmadapter.retrieval.trial import FinetuneResult, FinetuneTrial, mean_recall, run_finetune, trained

__all__ = [
    "FinetuneResult",
    "FinetuneTrial",
    "KS",
    "RetrievalBundle",
    "RetrievalFinal",
    "RetrievalModel",
    "RetrievalTest",
    "Sides",
    "all_rows",
    "export_retrieval",
    "final_retrieval",
    "is_retrieval_bundle",
    "load_retrieval_bundle",
    "mean_recall",
    "ranks_table",
    "retrieval_model",
    "run_finetune",
    "trained",
]
