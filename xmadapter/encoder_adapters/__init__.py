"""Modules that act inside an encoder's blocks."""

from xmadapter.encoder_adapters.attach import attach
from xmadapter.encoder_adapters.bank import AdapterBank
from xmadapter.encoder_adapters.checkpointing import checkpoint_gradients, keep_activations
from xmadapter.encoder_adapters.pooling import mean_pool, text_conditioned_similarity
from xmadapter.encoder_adapters.resume import check_resumable, image_features, image_tokens
from xmadapter.encoder_adapters.resume_text import text_features, text_tokens
from xmadapter.encoder_adapters.token_file import TokenFile, write_tokens
from xmadapter.encoder_adapters.tuned import TunedWeights

__all__ = [
    "AdapterBank",
    "TokenFile",
    "TunedWeights",
    "attach",
    "check_resumable",
    "checkpoint_gradients",
    "image_features",
    "image_tokens",
    "keep_activations",
    "mean_pool",
    "text_conditioned_similarity",
    "text_features",
    "text_tokens",
    "write_tokens",
]
