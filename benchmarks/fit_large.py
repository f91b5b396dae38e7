"""Memory and time of Tip-Adapter-F on 1,000 classes at 16 shots, one seed: 16,000 keys of 512 dimensions, 11 views of each image.

Run: `python -m benchmarks.fit_large`. Prints seconds an epoch (of two) and the peak memory of the process, features included.
"""

import resource
import time

import torch
import torch.nn.functional as F

from xmadapter.adapters import Memory, TipAdapter
from xmadapter.config import FitConfig, TipFConfig
from xmadapter.episodes import EpisodeBatch
from xmadapter.training import fit

CLASSES, SHOTS, VIEWS, DIM, EPOCHS, THREADS = 1000, 16, 11, 512, 2, 2


def make_episodes() -> tuple[EpisodeBatch, torch.Tensor]:
    """Made features: what they say is of no consequence here."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES).repeat_interleave(SHOTS)
    text = F.normalize(torch.randn(CLASSES, DIM, generator=generator), dim=-1)
    views = torch.randn(1, len(labels), VIEWS, DIM, generator=generator).add_(4 * text[labels][:, None])
    norms = views.norm(dim=-1)
    views /= norms[..., None]
    return EpisodeBatch(SHOTS, (1,), views, norms, labels, views[:, :0, 0], labels[:0]), text


def main() -> None:
    torch.set_num_threads(THREADS)
    episodes, text = make_episodes()
    adapter = TipAdapter(TipFConfig(), Memory(text, episodes.keys, episodes.labels, 100.0))
    started, losses = time.perf_counter(), []
    fit(
        adapter,
        episodes,
        FitConfig(epochs=EPOCHS, learning_rate=1e-3),
        on_epoch=lambda epoch: losses.append(epoch.loss),
    )
    seconds = (time.perf_counter() - started) / EPOCHS
    features_mb = episodes.views.numel() * episodes.views.element_size() / 2**20
    print(
        f"keys:               {len(episodes.labels):,} of {DIM}, {CLASSES:,} classes; {VIEWS} views, {features_mb:,.0f} MB of features"
    )
    print(f"an epoch:           {seconds:.1f} s on {THREADS} threads, loss {losses[0]:.3f} then {losses[-1]:.3f}")
    print(f"peak memory:        {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")


if __name__ == "__main__":
    main()
