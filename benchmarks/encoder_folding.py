"""Images per second of the embedded model's image tower, as it is and with batch norms folded and channels-last.

Run: `python -m benchmarks.encoder_folding`. Prints both rates and their ratio (batches of 16, two threads, best of 12, in turns).
"""

import copy
import time

import torch

from xmadapter.config.encode import EmbeddedSpec
from xmadapter.encoders import resolve_encoder
from xmadapter.encoders.embedded import embedded_folder, find_parts
from xmadapter.encoders.folding import fold_batch_norms

BATCH, REPEATS, THREADS = 16, 12, 2


def seconds(tower: torch.nn.Module, images: torch.Tensor) -> float:
    started = time.perf_counter()
    with torch.inference_mode():
        tower(images)
    return time.perf_counter() - started


def main() -> None:
    import timm
    from safetensors.torch import load_file

    torch.set_num_threads(THREADS)
    sha256 = resolve_encoder(EmbeddedSpec()).weights_sha256 or ""
    weights = load_file(embedded_folder(find_parts(), sha256) / "open_clip_model.safetensors")
    prefix = "visual.trunk."
    tower = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    tower.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}
    )
    images = torch.rand(BATCH, 3, 224, 224)
    faster = copy.deepcopy(tower)
    folded = fold_batch_norms(faster)
    faster.to(memory_format=torch.channels_last)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    # In turns, so that other load on the machine meets both; the first turn warms up.
    turns = [(seconds(tower, images), seconds(faster, channels_last)) for _ in range(REPEATS + 1)][1:]
    plain, fast = (BATCH / min(durations) for durations in zip(*turns, strict=True))
    print(f"as is:                       {plain:6.1f} images/s")
    print(f"{folded} batch norms folded:      {fast:6.1f} images/s")
    print(f"ratio:                       {fast / plain:6.2f}")


if __name__ == "__main__":
    main()
