"""Slow transcriptions of the adapters' equations: plain loops over Python floats, one seed, nothing shared with the product.

A vector is a list of floats, a matrix a list of rows. Equations: Tip-Adapter (Zhang et al., 2022), ZS-LP (Silva-Rodriguez et
al., 2024), and XMAdapter as docs/methods.md reconstructs it. TAU is the softmax temperature of votes per shot.
"""

import math

TAU = 10.0


def dot(u, v):
    return math.fsum(a * b for a, b in zip(u, v, strict=True))


def unit(u):
    length = math.sqrt(dot(u, u))
    return [a / length for a in u]


def mean(rows):
    return [math.fsum(column) / len(rows) for column in zip(*rows, strict=True)]


def softmax(u):
    top = max(u)
    parts = [math.exp(a - top) for a in u]
    return [part / math.fsum(parts) for part in parts]


def affinity(u, v, beta):
    return math.exp(-beta * (1 - dot(u, v)))


def zero_shot(query, *, text, scale):
    return [scale * dot(query, t) for t in text]


def linear_probe(query, *, weight, scale):
    return [scale * dot(query, unit(w)) for w in weight]


def tip_key(views, norms):
    """Average the un-normalised features of the views, then normalise once."""
    raw = [[norm * a for a in view] for view, norm in zip(views, norms, strict=True)]
    return unit(mean(raw))


def class_sums(row, *, labels, classes):
    """A·L for one row of A."""
    sums = [0.0] * classes
    for value, label in zip(row, labels, strict=True):
        sums[label] += value
    return sums


def tip(query, *, keys, labels, text, scale, alpha, beta):
    votes = class_sums([affinity(query, key, beta) for key in keys], labels=labels, classes=len(text))
    return [z + alpha * v for z, v in zip(zero_shot(query, text=text, scale=scale), votes, strict=True)]


def linear(u, *, matrix, bias):
    """u·M + b, where M has a row per input."""
    return [dot(u, column) + b for column, b in zip(zip(*matrix, strict=True), bias, strict=True)]


def image_affinities(query, *, keys, beta):
    return [affinity(query, key, beta) for key in keys]


def without_own(row, own, *, labels):
    """Leave the own image out of its affinities, and raise the rest of its class by k/(k-1); with one shot leave all as it is."""
    shots = labels.count(labels[own])
    if shots == 1:
        return row
    raised = [
        value * shots / (shots - 1) if label == labels[own] else value for value, label in zip(row, labels, strict=True)
    ]
    return [0.0 if place == own else value for place, value in enumerate(raised)]


def text_affinities(query, *, labels, text, image_net, text_net, beta):
    """The affinity to each support row by way of its own text key: a matrix of n rows and D columns, row by row."""
    low = unit(linear(query, **image_net))
    table = [unit(linear(t, **text_net)) for t in text]
    return [affinity(low, table[label], beta) for label in labels]


def per_shot(row, *, labels, classes):
    sums = class_sums(row, labels=labels, classes=classes)
    return [total / max(1, labels.count(label)) for label, total in enumerate(sums)]


def entropy(p):
    return -math.fsum(a * math.log(a) for a in p if a > 0) / math.log(max(2, len(p)))


def certainty(row, *, labels, classes):
    shares = per_shot(row, labels=labels, classes=classes)
    return [max(shares), entropy(softmax([TAU * share for share in shares]))]


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def share(image_row, text_row, *, labels, classes, ratio, fixed=None, theta=None, weight=None):
    """Weight of the image affinity for one query: a number, a learned number, or a learned function of certainty."""
    if ratio == "fixed":
        return fixed
    if ratio == "learned":
        return sigmoid(theta)
    features = certainty(image_row, labels=labels, classes=classes) + certainty(
        text_row, labels=labels, classes=classes
    )
    return sigmoid(theta + dot(weight, features))


def xmadapter(query, *, image_row, text_row, gamma, labels, text, scale, alpha):
    merged = [gamma * a + (1 - gamma) * b for a, b in zip(image_row, text_row, strict=True)]
    votes = class_sums(merged, labels=labels, classes=len(text))
    return [z + alpha * v for z, v in zip(zero_shot(query, text=text, scale=scale), votes, strict=True)]


def kl(p, q):
    return math.fsum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def modality_gap(image_row, text_row, label, *, labels, classes, kind):
    if kind == "affinity":
        left, right = ([a / math.fsum(row) for a in row] for row in (image_row, text_row))
        return math.fsum(abs(a - b) for a, b in zip(left, right, strict=True)) / len(labels)
    left, right = (per_shot(row, labels=labels, classes=classes) for row in (image_row, text_row))
    if kind == "true-class":
        return abs(left[label] - right[label])
    p, q = (softmax([TAU * a for a in shares]) for shares in (left, right))
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    return 0.5 * (kl(p, middle) + kl(q, middle))


def sample_weights(gaps, *, eta):
    average = math.fsum(gaps) / len(gaps)
    return [min(5.0, max(0.2, 1 + eta * (gap / average - 1))) for gap in gaps]


def cross_entropy(logits, label):
    return -math.log(softmax(logits)[label])


def weighted_cross_entropy(logits, labels, weights):
    losses = [cross_entropy(row, label) for row, label in zip(logits, labels, strict=True)]
    return math.fsum(w * loss for w, loss in zip(weights, losses, strict=True)) / math.fsum(weights)


def agreement(image_row, text_row, *, labels, classes):
    """Symmetric KL between the class distributions of the two modalities, one query."""
    shares = (per_shot(row, labels=labels, classes=classes) for row in (image_row, text_row))
    p, q = (softmax([TAU * a for a in one]) for one in shares)
    return 0.5 * (kl(p, q) + kl(q, p))
