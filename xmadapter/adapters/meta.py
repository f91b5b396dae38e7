"""Meta-Adapter: each class text reads the support of its class and takes up a gated share of it (Cheng et al., NeurIPS 2023).

The paper trains on base classes, with keys from a queue of features just seen, and is asked about other classes. Here it is trained
on the shots of the classes it is asked about. A training query would find its own image in the list of its class; it is left out
there (ours), which stands in for the queue.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from xmadapter.adapters.base import FeatureAdapter, Memory
from xmadapter.adapters.seeded import uniform
from xmadapter.config import MetaConfig

__all__ = ["MetaAdapter", "class_members"]


def class_members(labels: Int[Tensor, " support"], *, classes: int) -> Int[Tensor, "classes most"]:
    """List the support rows of every class, filled up with -1 to the length of the longest list.

    Example:
        >>> class_members(torch.tensor([1, 0, 1]), classes=3)
        tensor([[ 1, -1],
                [ 0,  2],
                [-1, -1]])
    """
    counts = torch.bincount(labels, minlength=classes)
    order = labels.argsort(stable=True)
    place = torch.arange(len(labels), device=labels.device) - (counts.cumsum(0) - counts)[labels[order]]
    members = torch.full((classes, int(counts.max())), -1, device=labels.device)
    members[labels[order], place] = order
    return members


class MetaAdapter(FeatureAdapter):
    """Class texts that attend to themselves and to the support of their class.

    Args:
        config: How it is trained.
        memory: Class texts, support keys and their classes, any number for each; the seeds say how the weights start.
    """

    def __init__(self, config: MetaConfig, memory: Memory) -> None:
        super().__init__(memory)
        self.config = config
        self.register_buffer("keys", memory.keys)
        self.register_buffer("labels", memory.labels)
        dim, seeds = memory.text.shape[-1], memory.seeds
        xavier = (6 / (dim + dim)) ** 0.5
        self.query = uniform(seeds, "query", (dim, dim), bound=xavier)
        self.key = uniform(seeds, "key", (dim, dim), bound=xavier)
        self.gate = uniform(seeds, "gate", (dim, 1), bound=(6 / (dim + 1)) ** 0.5)
        self.gate_bias = nn.Parameter(torch.ones(len(seeds), 1, 1))

    def forward(self, image: Float[Tensor, "#seeds batch dim"]) -> Float[Tensor, "seeds batch classes"]:
        """Classify by similarity to the class texts as they are after reading the support."""
        lists = self._lists()
        return self.logit_scale * (image @ self._read(lists, self._scores(lists)).mT)

    def loss(
        self,
        image: Float[Tensor, "seeds batch dim"],
        labels: Int[Tensor, "seeds batch"],
        rows: Int[Tensor, "seeds batch"],
    ) -> Float[Tensor, " seeds"]:
        """Score a training batch: cross-entropy, where the true class of a query is read without the query's own row (ours)."""
        lists, seeds = self._lists(), torch.arange(len(image), device=image.device)[:, None]
        scores = self._scores(lists)
        members = self._members[labels]
        # The only row of a class stays: a true class without any image, beside others with theirs, would teach to read none.
        several = (members >= 0).sum(dim=-1, keepdim=True) > 1
        own = F.pad((members == rows[..., None]) & several, (1, 0))
        others = self._read(lists[seeds, labels], scores[seeds, labels].masked_fill(own, -torch.inf))
        similarity = image @ self._read(lists, scores).mT
        similarity = similarity.scatter(-1, labels[..., None], (image * others).sum(dim=-1, keepdim=True))
        return F.cross_entropy((self.logit_scale * similarity).movedim(-1, 1), labels, reduction="none").mean(dim=-1)

    @property
    def _members(self) -> Int[Tensor, "classes most"]:
        return class_members(self.labels, classes=len(self.text))

    def _lists(self) -> Float[Tensor, "seeds classes entries dim"]:
        """Give what each class reads: its text, then its support."""
        text = self.text[:, None].expand(len(self.keys), -1, -1, -1)
        return torch.cat([text, self.keys[:, self._members]], dim=2)

    def _scores(self, lists: Float[Tensor, "seeds classes entries dim"]) -> Float[Tensor, "seeds classes entries"]:
        """Compare each text with its list: (W_q t) · (W_k u) / √dim; minus infinity where a list is filled up."""
        # The product is (W_kᵀ W_q t) · u: `key` meets one row a class instead of each of its support.
        asked = self.text @ self.query @ self.key.mT / self.text.shape[-1] ** 0.5
        scores = (lists @ asked[..., None]).squeeze(-1)
        return scores.masked_fill(F.pad(self._members < 0, (1, 0)), -torch.inf)

    def _read(
        self, lists: Float[Tensor, "seeds n entries dim"], scores: Float[Tensor, "seeds n entries"]
    ) -> Float[Tensor, "seeds n dim"]:
        """Move texts, the first of each list, by what they read: norm(t + g v), g = sigmoid(w · t + b), v = softmax(scores) U."""
        text, value = lists[..., 0, :], (scores.softmax(dim=-1)[..., None, :] @ lists).squeeze(-2)
        return F.normalize(text + torch.sigmoid(text @ self.gate + self.gate_bias) * value, dim=-1)
