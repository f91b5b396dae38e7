"""What a pool of GPU nodes that grows from nothing makes of a real plan: time and use against the ideal.

python -m benchmarks.cluster_simulation [--images 1281167] [--views 10] [--images-per-s 300] [--start-s 180] [--losses-per-hour 0.05]

The plan is `make_plan`'s, cut into the blocks that the encode job schedules. Nodes and time are simulated: nodes come as Ray's first
autoscaler launches them and take `--start-s` to boot; a free node takes the next block; a block lasts as long as its slower half, decoding
on the node's 8 cores at 3.5 ms an image as measured in docs/benchmarks.md, or encoding at an assumed rate; and 10 % more or less by
chance. Beyond `PLANNED` images the plan is that of as many, its blocks widened: the job has no more of them. Spot nodes are lost at
random, and their block is begun again elsewhere. Nothing is encoded.
"""

import argparse
import heapq
from dataclasses import dataclass

import numpy as np

from benchmarks.plan_scale import CLASSES, make_samples
from xmadapter.config import EmbeddedSpec, ImageConfig
from xmadapter.features import EncodeRecipe, make_plan

PLANNED = 1_281_167
BLOCKS = 4096
"""As xmadapter.distributed.encode cuts them."""
DECODE_S, CORES, SHARD_S, SPREAD = 3.5e-3, 8, 2.1e-3, 0.1
UPDATE_S, SPEED, PENDING = 5.0, 4.0, 5
"""Ray's autoscaler looks every 5 s, and has at most max(5, upscaling_speed times running nodes) on their way."""


@dataclass(frozen=True)
class Pool:
    """Nodes with one GPU each.

    Args:
        most: Nodes it may grow to.
        start_s: From launch to the first task.
        losses_per_hour: Of a node.
    """

    most: int
    start_s: float
    losses_per_hour: float


@dataclass(frozen=True)
class Outcome:
    """What became of a job: seconds, node seconds paid, node seconds of work that counted, nodes lost."""

    makespan_s: float
    paid_s: float
    worked_s: float
    losses: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=PLANNED)
    parser.add_argument("--views", type=int, default=10)
    parser.add_argument("--images-per-s", type=float, default=300)
    parser.add_argument("--start-s", type=float, default=180)
    parser.add_argument("--losses-per-hour", type=float, default=0.05)
    given = parser.parse_args()
    blocks = block_rows(min(given.images, PLANNED), given.views) * max(1.0, given.images / PLANNED)
    seconds = blocks * max(1 / given.images_per_s, DECODE_S / CORES) + SHARD_S
    print(
        f"{blocks.sum():,.0f} rows in {len(blocks):,} blocks of about {np.median(seconds):.2f} s, {seconds.sum() / 3600:.2f} h on one GPU"
    )
    print(
        f"{'GPUs':>5} {'ideal s':>9} {'job s':>9} {'after start s':>14} {'of ideal':>9} {'nodes busy':>11} {'lost':>5}"
    )
    for most in (1, 4, 16, 64, 100):
        pool = Pool(most, given.start_s, given.losses_per_hour)
        rng = np.random.default_rng(most)
        spread = seconds * rng.uniform(1 - SPREAD, 1 + SPREAD, len(seconds))
        found, ideal = simulate(spread, pool, rng), spread.sum() / most
        after = found.makespan_s - pool.start_s
        print(
            f"{most:5d} {ideal:9.0f} {found.makespan_s:9.0f} {after:14.0f} {ideal / after:9.0%} "
            f"{found.worked_s / found.paid_s:11.0%} {found.losses:5d}"
        )


def block_rows(images: int, views: int) -> np.ndarray:
    """Rows of each block of the plan, in the order of the job."""
    recipe = EncodeRecipe(
        encoder=EmbeddedSpec(weights_sha256="0" * 64),
        image=ImageConfig(),
        class_names=tuple(f"class {number}" for number in range(CLASSES)),
        prompts=("a photo of a {}.",),
        views=views,
        seed=0,
        rows_per_shard=256,
        batch_size=256,
    )
    rows = np.array([shard.rows for shard in make_plan(recipe, make_samples(images)).shards])
    return np.array([part.sum() for part in np.array_split(rows, min(len(rows), BLOCKS))])


def simulate(blocks_s: np.ndarray, pool: Pool, rng: np.random.Generator) -> Outcome:
    """Give every free node the next block until none is left; a lost node is replaced and its block begun again."""
    waiting = list(blocks_s[::-1])
    free = [(ready, ready + _life(pool, rng), ready - pool.start_s) for ready in arrivals(pool)]
    heapq.heapify(free)
    paid = worked = makespan = 0.0
    losses = 0
    while waiting:
        now, dies, launched = heapq.heappop(free)
        block = waiting.pop()
        if now + block <= dies:
            worked, makespan = worked + block, max(makespan, now + block)
            heapq.heappush(free, (now + block, dies, launched))
        else:
            waiting.append(block)
            losses, paid = losses + 1, paid + dies - launched
            ready = dies + pool.start_s
            heapq.heappush(free, (ready, ready + _life(pool, rng), dies))
    return Outcome(makespan, paid + sum(max(0.0, makespan - launched) for _, _, launched in free), worked, losses)


def arrivals(pool: Pool) -> list[float]:
    """When each node is ready, by the rule of the autoscaler."""
    ready: list[float] = []
    now = 0.0
    while len(ready) < pool.most:
        running = sum(each <= now for each in ready)
        room = max(PENDING, int(SPEED * max(running, 1))) - (len(ready) - running)
        ready += [now + pool.start_s] * min(max(room, 0), pool.most - len(ready))
        now += UPDATE_S
    return ready


def _life(pool: Pool, rng: np.random.Generator) -> float:
    return rng.exponential(3600 / pool.losses_per_hour) if pool.losses_per_hour else float("inf")


if __name__ == "__main__":
    main()
