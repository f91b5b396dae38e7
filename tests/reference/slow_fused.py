"""Slow transcription of the fused adapter's ridge: plain loops over Python floats, one seed.

The covariance of views goes through the inverse of matrices only: the whitened dot product of u and v is u · inverse(Σ̂) v.
"""

import math

from tests.reference.slow_closed_form import dot, inverse, mean, times, trace


def unit(u):
    length = math.sqrt(dot(u, u))
    return [a / length for a in u]


def view_precision(views, *, h):
    """The inverse of Σ̂ · dim / tr(Σ): Σ of views around the mean view of their image, shrunk by h. `views`: images of rows."""
    dim = len(views[0][0])
    sigma = [[0.0] * dim for _ in range(dim)]
    count = 0
    for image in views:
        middle = mean(image)
        for row in image:
            count += 1
            for i in range(dim):
                for j in range(dim):
                    sigma[i][j] += (row[i] - middle[i]) * (row[j] - middle[j])
    sigma = [[value / count for value in row] for row in sigma]
    level = trace(sigma) / dim
    shrunk = [
        [((1 - h) * sigma[i][j] + (h * level if i == j else 0.0)) / level for j in range(dim)] for i in range(dim)
    ]
    return inverse(shrunk)


def kernel(u, v, *, centre, precision, beta):
    first = dot(unit(u), unit(v))
    if precision is None:
        return math.exp(-beta * (1 - first))
    a = [x - c for x, c in zip(u, centre, strict=True)]
    b = [x - c for x, c in zip(v, centre, strict=True)]
    second = dot(a, times(precision, b)) / math.sqrt(dot(a, times(precision, a)) * dot(b, times(precision, b)))
    return math.exp(-beta * (1 - (first + second) / 2))


def certainty(votes):
    """1 for a single class that gets all probability, 0 where all get the same."""
    total = sum(math.exp(vote) for vote in votes)
    shares = [math.exp(vote) / total for vote in votes]
    return 1 + sum(share * math.log(share) for share in shares) / math.log(len(shares))


def fused(query, *, keys, labels, text, scale, views, h, alpha, beta, ridge, gate):
    """scale · zero-shot + alpha · certainty^gate · scale · correction, of every class."""
    shared = {
        "centre": mean(keys),
        "precision": None if h is None else view_precision(views, h=h),
        "beta": beta,
    }
    gram = [
        [kernel(u, v, **shared) + (ridge if i == j else 0.0) for j, v in enumerate(keys)] for i, u in enumerate(keys)
    ]
    solve = inverse(gram)
    near = [kernel(query, key, **shared) for key in keys]
    votes = []
    for label, words in enumerate(text):
        residual = [float(own == label) - dot(key, words) for key, own in zip(keys, labels, strict=True)]
        votes.append(scale * dot(near, times(solve, residual)))
    share = alpha * certainty(votes) ** gate
    return [scale * dot(query, words) + share * vote for words, vote in zip(text, votes, strict=True)]
