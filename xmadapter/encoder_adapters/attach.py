"""attach: put adapters into an encoder, as a config says."""

from torch import nn

from xmadapter.config import (
    BiasTuningConfig,
    CrossModalConfig,
    EncoderAdapterConfig,
    FullTuningConfig,
    LoraConfig,
    UniAdapterConfig,
)
from xmadapter.encoder_adapters.bank import AdapterBank
from xmadapter.encoder_adapters.checkpointing import check_checkpointing
from xmadapter.encoder_adapters.cross_modal import attach_cross_modal
from xmadapter.encoder_adapters.lora import attach_lora
from xmadapter.encoder_adapters.tuned import TunedWeights, attach_tuning
from xmadapter.encoder_adapters.uniadapter import attach_uniadapter

__all__ = ["attach"]


def attach(model: nn.Module, config: EncoderAdapterConfig, *, seed: int = 0) -> AdapterBank | TunedWeights:
    """Freeze an open_clip model and hook adapters into it; with starts at zero, its outputs stay what they are.

    Args:
        model: The module, such as `OpenClipEncoder.model`. The keys of its state do not change.
        config: Which adapters, and where. Tuning of biases or of everything trains the model's own weights instead.
        seed: Of the weights that start at random; equal seeds start alike on every device.

    Raises:
        ConfigError: The model cannot host these adapters; the message says why.
    """
    check_checkpointing(model)
    match config:
        case CrossModalConfig():
            return attach_cross_modal(model, config, seed=seed)
        case UniAdapterConfig():
            return attach_uniadapter(model, config, seed=seed)
        case LoraConfig():
            return attach_lora(model, config, seed=seed)
        case BiasTuningConfig() | FullTuningConfig():
            return attach_tuning(model, config)
