"""TunedWeights: weights of the encoder itself, trained where they are; what adapters are compared with."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from xmadapter.config import BiasTuningConfig, FullTuningConfig
from xmadapter.config.encoder_adapters import Towers
from xmadapter.encoder_adapters.bank import check_state, freeze
from xmadapter.errors import ConfigError

__all__ = ["TunedWeights", "attach_tuning"]


class TunedWeights(nn.Module):
    """Train some of an encoder's own weights, and be able to take it back.

    It offers what an `AdapterBank` does. The encoder stays in `eval` mode; a copy of the first values lies on the CPU.

    Args:
        model: The encoder, in float32.
        names: Of the parameters that are trained.

    Attributes:
        first_blocks: All zero: with weights trained from the embedding on, nothing is constant.
        sites: The names.

    Raises:
        ConfigError: A weight is not float32, whose small steps half precision would round away.
    """

    def __init__(self, model: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        trained = {name: parameter for name, parameter in model.named_parameters() if name in set(names)}
        coarse = [name for name, parameter in trained.items() if parameter.dtype != torch.float32]
        if coarse:
            raise ConfigError(
                f"{coarse[0]} is {trained[coarse[0]].dtype}; to train an encoder's own weights set its precision to fp32"
            )
        self.first_blocks = {"image": 0, "text": 0}
        self.sites = list(trained)
        self._restore = freeze(model)
        self._enabled = True
        # The values that are not in the encoder: those it came with, or the trained ones while it is as it came.
        self._others = {name: parameter.detach().cpu().clone() for name, parameter in trained.items()}
        for name, parameter in trained.items():
            parameter.requires_grad_(True)
            self.register_parameter(name.replace(".", "/"), parameter)  # a dot is not allowed

    @property
    def trained_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    @property
    def enabled(self) -> bool:
        """Set to False, the encoder is exactly as it came; set to True, as it was trained."""
        return self._enabled

    @enabled.setter
    @torch.no_grad()
    def enabled(self, value: bool) -> None:
        if value != self._enabled:
            for name, parameter in self._trained.items():
                leaving = parameter.cpu().clone()
                parameter.copy_(self._others[name])
                self._others[name] = leaving
                parameter.requires_grad_(value)  # torch multiplies by other routes where a factor is trained
        self._enabled = value

    def state(self) -> dict[str, Tensor]:
        """Copy the trained values to the CPU, under their names in the encoder."""
        values = self._trained if self._enabled else self._others
        return {name: tensor.detach().cpu().clone() for name, tensor in values.items()}

    @torch.no_grad()
    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take trained values, all of them.

        Raises:
            IntegrityError: Names or shapes are not those of these weights; they are left as they were.
        """
        values = self._trained if self._enabled else self._others
        check_state(state, values)
        for name, tensor in values.items():
            tensor.copy_(state[name])

    def detach(self) -> None:
        """Give the encoder back as it came; the trained values stay here."""
        self.enabled = False
        self._restore()

    @property
    def _trained(self) -> dict[str, nn.Parameter]:
        return {name.replace("/", "."): parameter for name, parameter in self.named_parameters()}


def attach_tuning(model: nn.Module, config: BiasTuningConfig | FullTuningConfig) -> TunedWeights:
    """Train the biases, or all weights, of the towers; never the logit scale and bias, nor a decoder.

    Raises:
        ConfigError: The model is not in float32, or has no such weight.
    """
    names = [name for name, _ in model.named_parameters() if _within(name, config.towers)]
    if config.kind == "bias":
        names = [name for name in names if name.endswith("bias")]
    if not names:
        raise ConfigError(f"{type(model).__name__} has no weights for {config.kind} tuning of towers={config.towers}")
    return TunedWeights(model, names)


def _within(name: str, towers: Towers) -> bool:
    if name.startswith(("logit_", "text_decoder.")):
        return False
    return towers == "both" or name.startswith("visual.") == (towers == "image")
