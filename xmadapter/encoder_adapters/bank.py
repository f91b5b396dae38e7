"""AdapterBank: the weights that are trained, outside the encoder they act in."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from xmadapter.encoder_adapters.sites import BranchEnd
from xmadapter.errors import IntegrityError, some

__all__ = ["AdapterBank", "Kept", "check_state", "freeze"]


class Kept:
    """A tensor on its way from one hook to another of the same forward pass."""

    def __init__(self) -> None:
        self._tensor: Tensor | None = None

    def put(self, tensor: Tensor) -> None:
        """Keep a tensor, in the place of one that a broken-off pass left behind."""
        self._tensor = tensor

    def take(self) -> Float[Tensor, "*axes width"]:
        """Hand the tensor over in float32 and forget it: kept on, it would hold a whole graph in memory."""
        tensor, self._tensor = self._tensor, None
        if tensor is None:
            raise RuntimeError("an adapter's second hook ran without its first: the encoder was called in part")
        return tensor.float()


class AdapterBank(nn.Module):
    """Own the adapters of a frozen encoder, and the hooks through which they act.

    The encoder keeps its modules and the keys of its state; it is frozen and put in `eval` mode, where it stays while the bank
    trains. Adapters compute in float32 over an encoder of any precision, also under autocast. A deep copy of the encoder would
    still use this bank, and a hooked encoder cannot be pickled: attach where the encoder is built.

    Args:
        model: The encoder, which the bank does not own.
        adapters: By name; a weight that two sites share stands in one of them only.
        first_blocks: The first adapted block of each tower, by its name; what lies below is constant.

    Attributes:
        enabled: Set to False, the encoder is exactly the frozen one.
        sites: Names of the modules that are changed, in the order of hooking.
    """

    def __init__(self, model: nn.Module, adapters: Mapping[str, nn.Module], *, first_blocks: Mapping[str, int]) -> None:
        super().__init__()
        self.adapters = nn.ModuleDict(adapters)
        self.enabled = True
        self.first_blocks = dict(first_blocks)
        self.sites: list[str] = []
        self._names = {id(module): name for name, module in model.named_modules()}  # ids, so as not to hold the encoder
        self._handles: list[RemovableHandle] = []
        self._restore = freeze(model)
        self.to(next(model.parameters()).device)

    @property
    def trained_parameters(self) -> int:
        """Trainable numbers."""
        return sum(parameter.numel() for parameter in self.parameters())

    def add(
        self, end: BranchEnd, addition: Callable[[Float[Tensor, "*axes width"]], Float[Tensor, "*axes width"]]
    ) -> None:
        """Add to a branch's result something that is computed in float32 from that result, or from what was kept."""

        def changed(result: Tensor) -> Tensor:
            if not self.enabled:
                return result
            with torch.autocast(result.device.type, enabled=False):
                wide = result.float()
                return (wide + addition(wide)).to(result.dtype)

        self._handles.append(end.change(changed))
        self.sites.append(self._names[id(end.module)])

    def keep(self, module: nn.Module) -> Kept:
        """Keep the first input of a module in every forward pass, for an addition further on."""
        kept = Kept()

        def put(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            if self.enabled:
                kept.put(inputs[0])

        self._handles.append(module.register_forward_pre_hook(put))
        return kept

    def state(self) -> dict[str, Tensor]:
        """Copy the weights to the CPU, each under one name, as safetensors asks for."""
        return {name: tensor.detach().cpu().clone() for name, tensor in self.adapters.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the weights of a state, all of them.

        Raises:
            IntegrityError: Names or shapes are not those of this bank; it is left as it was.
        """
        check_state(state, self.adapters.state_dict())
        self.adapters.load_state_dict(state)

    def detach(self) -> None:
        """Remove the hooks, and let the encoder be trained again where it was before; the weights stay with the bank."""
        while self._handles:
            self._handles.pop().remove()
        self._restore()


def freeze(model: nn.Module) -> Callable[[], None]:
    """Freeze a model in `eval` mode; the function returned makes its parameters trainable again, where they were.

    Dropout of patches and paths is off in `eval` mode, and no batch statistic moves.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    modes = {module: module.training for module in model.modules()}
    model.requires_grad_(False).eval()

    def restore() -> None:
        for parameter in trained:
            parameter.requires_grad_(True)
        for module, training in modes.items():
            module.training = training

    return restore


def check_state(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> None:
    """Refuse a state whose names or shapes are not those of our own weights.

    Raises:
        IntegrityError: Names the tensors that differ.
    """
    wrong = [name for name in state.keys() | own.keys() if name not in own or name not in state]
    wrong += [name for name in state.keys() & own.keys() if state[name].shape != own[name].shape]
    if wrong:
        raise IntegrityError(
            f"these adapter weights belong to another config or encoder: {some(wrong)} missing, unknown or of another "
            "shape; nothing was loaded. Attach with the config they were saved under."
        )
