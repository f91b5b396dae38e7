"""Heads over frozen features, several seeds side by side."""

from xmadapter.adapters.ape import APE, TrainedAPE, channel_scores, surprise
from xmadapter.adapters.base import FeatureAdapter, Memory, SolvableAdapter, zero_shot_logits
from xmadapter.adapters.build import build_adapter, restore_adapter
from xmadapter.adapters.clap import Clap
from xmadapter.adapters.clip_adapter import ClipAdapter
from xmadapter.adapters.fused import FusedAdapter, view_whitening
from xmadapter.adapters.gda import GDA, Gaussians, fit_gaussians
from xmadapter.adapters.linear_probe import LinearProbe
from xmadapter.adapters.logistic import LogisticRegression, fit_logistic
from xmadapter.adapters.lp_plus_plus import LpPlusPlus
from xmadapter.adapters.meta import MetaAdapter, class_members
from xmadapter.adapters.multimodal import MultiModalAdapter
from xmadapter.adapters.proker import ProKeR
from xmadapter.adapters.ridge import MOST_ROWS, Ridge, condensed, fit_ridge, zero_shot_residual
from xmadapter.adapters.task_residual import TaskResidual
from xmadapter.adapters.timo import TIMO, guided_text, prompt_match, prompt_rows
from xmadapter.adapters.tip import TipAdapter, cache_votes, sharpened
from xmadapter.adapters.unseen import unseen_logits
from xmadapter.adapters.xmadapter import XMAdapter
from xmadapter.adapters.zero_shot import ZeroShot

__all__ = [
    "APE",
    "Clap",
    "ClipAdapter",
    "GDA",
    "FeatureAdapter",
    "FusedAdapter",
    "Gaussians",
    "LinearProbe",
    "LogisticRegression",
    "LpPlusPlus",
    "MOST_ROWS",
    "Memory",
    "MetaAdapter",
    "MultiModalAdapter",
    "ProKeR",
    "Ridge",
    "SolvableAdapter",
    "TIMO",
    "TaskResidual",
    "TipAdapter",
    "TrainedAPE",
    "XMAdapter",
    "ZeroShot",
    "build_adapter",
    "cache_votes",
    "channel_scores",
    "class_members",
    "condensed",
    "fit_gaussians",
    "fit_logistic",
    "fit_ridge",
    "guided_text",
    "prompt_match",
    "prompt_rows",
    "restore_adapter",
    "sharpened",
    "surprise",
    "unseen_logits",
    "view_whitening",
    "zero_shot_logits",
    "zero_shot_residual",
]
