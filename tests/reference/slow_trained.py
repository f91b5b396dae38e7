"""Slow transcriptions of trained heads: plain loops over Python floats, one seed, nothing shared with the product.

A vector is a list of floats, a matrix a list of rows, with a row per input. Equations: CLIP-Adapter (Gao et al., 2024) on
normalised features, TaskRes (Yu et al., 2023), CLAP (Silva-Rodriguez et al., 2024), APE-T (Zhu et al., 2023), Meta-Adapter (Cheng et
al., 2023), Multi-Modal Adapter (Seputis et al., 2024), LP++ (Huang et al., 2024).
"""

import math

HEADS = 4


def dot(u, v):
    return math.fsum(a * b for a, b in zip(u, v, strict=True))


def unit(u):
    length = math.sqrt(dot(u, u))
    return [a / length for a in u]


def softmax(u):
    top = max(u)
    parts = [math.exp(a - top) for a in u]
    return [part / math.fsum(parts) for part in parts]


def times(u, matrix):
    """u·M."""
    return [dot(u, column) for column in zip(*matrix, strict=True)]


def blended(share, u, v):
    return [share * a + (1 - share) * b for a, b in zip(u, v, strict=True)]


def cosines(query, text, scale):
    return [scale * dot(unit(query), unit(t)) for t in text]


def cross_entropy(logits, label):
    return -math.log(softmax(logits)[label])


def clip_adapter(query, *, down, up, text, ratio, scale):
    hidden = [max(0.0, a) for a in times(query, down)]
    adapted = [max(0.0, a) for a in times(hidden, up)]
    return cosines(blended(ratio, adapted, query), text, scale)


def task_residual(query, *, residual, text, alpha, scale):
    moved = [[a + alpha * b for a, b in zip(t, x, strict=True)] for t, x in zip(text, residual, strict=True)]
    return cosines(query, moved, scale)


def clap_lambda(keys, labels, *, text, scale, label):
    """Mean zero-shot probability of a class over its own shots."""
    own = [softmax(cosines(key, text, scale))[label] for key, other in zip(keys, labels, strict=True) if other == label]
    return math.fsum(own) / len(own)


def clap_loss(queries, labels, *, weight, text, lambdas, scale):
    losses = [cross_entropy(cosines(query, weight, scale), label) for query, label in zip(queries, labels, strict=True)]
    costs = [
        lam * math.fsum((a - b) ** 2 for a, b in zip(w, t, strict=True))
        for lam, w, t in zip(lambdas, weight, text, strict=True)
    ]
    return math.fsum(losses) / len(losses) + math.fsum(costs) / len(text)


def added(u, move, channels):
    """The move has a number per channel, in the order of the channels."""
    return [a + (move[channels.index(one)] if one in channels else 0.0) for one, a in enumerate(u)]


def ape_t(query, *, keys, labels, text, channels, residual, entries, alpha, beta, scale):
    """Keys and query are restricted to the channels and normalised there; neither key nor text is normalised after its move."""
    logits = [scale * dot(query, added(t, move, channels)) for t, move in zip(text, residual, strict=True)]
    low = unit([query[one] for one in channels])
    for key, label, entry in zip(keys, labels, entries, strict=True):
        moved = [a + b for a, b in zip(unit([key[one] for one in channels]), residual[label], strict=True)]
        logits[label] += alpha * entry * math.exp(-beta * (1 - dot(low, moved)))
    return logits


def meta_text(t, support, *, query, key, gate, bias):
    """A class text after it has read the list of itself and its support."""
    listed = [t, *support]
    asked = times(t, query)
    shares = softmax([dot(asked, times(u, key)) / math.sqrt(len(t)) for u in listed])
    value = [dot(shares, column) for column in zip(*listed, strict=True)]
    share = 1 / (1 + math.exp(-dot(gate, t) - bias))
    return unit([a + share * b for a, b in zip(t, value, strict=True)])


def meta_logits(image, *, keys, labels, text, scale, own=None, **weights):
    """`own` is the support row that a training query is a view of: no list holds it."""
    moved = []
    for label, t in enumerate(text):
        rows = [row for row, one in enumerate(labels) if one == label]
        others = [keys[row] for row in rows if row != own or len(rows) == 1]
        moved.append(meta_text(t, others, **weights))
    return [scale * dot(image, t) for t in moved]


def meta_loss(images, rows, *, labels, **shared):
    losses = [
        cross_entropy(meta_logits(image, labels=labels, own=row, **shared), labels[row])
        for image, row in zip(images, rows, strict=True)
    ]
    return math.fsum(losses) / len(losses)


def linear(u, layer):
    return [a + b for a, b in zip(times(u, layer["weight"]), layer["bias"], strict=True)]


def gelu(a):
    return 0.5 * a * (1 + math.erf(a / math.sqrt(2)))


def mask_score(row, column, *, last, mask):
    """What is added to a score: token `last` is the image, all others are texts."""
    crosses = (row == last) != (column == last)
    if mask == "bias1":
        return 1.0 if crosses else 0.0
    if mask == "cross":
        return 0.0 if crosses else -math.inf
    return 0.0


def attention(tokens, *, project, output, mask):
    """Attend over all tokens at once, with four heads and a matrix of scores per head."""
    width, last = len(tokens[0]), len(tokens) - 1
    head = width // HEADS
    projected = [linear(token, project) for token in tokens]
    outputs = []
    for row, own in enumerate(projected):
        joined = []
        for start in range(0, width, head):
            query = own[start : start + head]
            scores = [
                dot(query, other[width + start : width + start + head]) / math.sqrt(head)
                + mask_score(row, column, last=last, mask=mask)
                for column, other in enumerate(projected)
            ]
            values = [other[2 * width + start : 2 * width + start + head] for other in projected]
            joined += [dot(softmax(scores), column) for column in zip(*values, strict=True)]
        outputs.append(linear(joined, output))
    return outputs


def multi_modal(query, *, layers, text, blend, mask, scale):
    tokens = [linear(linear(row, layers["down1"]), layers["down2"]) for row in [*text, query]]
    attended = attention(tokens, project=layers["project"], output=layers["output"], mask=mask)
    raised = [linear([gelu(a) for a in linear(row, layers["up1"])], layers["up2"]) for row in attended]
    *adapted_text, adapted_query = [unit(row) for row in raised]
    moved = [blended(blend, a, t) for a, t in zip(adapted_text, text, strict=True)]
    return cosines(blended(blend, adapted_query, query), moved, scale)


def largest_eigenvalue(rows):
    """Of FᵀF, by power iteration."""
    u = unit([1.0 + a for a in rows[0]])
    for _ in range(2000):
        u = unit(times([dot(row, u) for row in rows], rows))
    return math.fsum(dot(row, u) ** 2 for row in rows)


def lp_start(keys, labels, text):
    """Weights, the sums of each class's shots, and the text weight, 250 times the mean of class means of cosines."""
    weight, means = [], []
    for label, t in enumerate(text):
        own = [key for key, other in zip(keys, labels, strict=True) if other == label]
        weight.append([math.fsum(column) for column in zip(*own, strict=True)])
        means.append(math.fsum(dot(key, t) for key in own) / len(own))
    return weight, 250 * math.fsum(means) / len(means)


def lp_steps(keys, text):
    sums = [math.fsum(dot(key, t) ** 2 for key in keys) for t in text]
    return 4 * len(keys) / largest_eigenvalue(keys), len(keys) / (4 * max(sums))


def lp_logits(query, *, weight, bias, alpha, text):
    return [dot(query, w) + b + a * dot(query, t) for w, b, a, t in zip(weight, bias, alpha, text, strict=True)]


def lp_train(keys, labels, text, *, epochs, running_sum):
    """Gradient of cross-entropy by hand: probability minus one-hot, times what the logit is linear in."""
    classes, dims = range(len(text)), range(len(text[0]))
    weight, alpha0 = lp_start(keys, labels, text)
    bias, alpha = [0.0 for _ in classes], [alpha0 for _ in classes]
    speed = [[0.0 for _ in dims] for _ in classes]
    bias_speed, gathered = [0.0 for _ in classes], [0.0 for _ in classes]
    weight_step, text_step = lp_steps(keys, text)
    for epoch in range(1, epochs + 1):
        errors = []
        for key, label in zip(keys, labels, strict=True):
            shares = softmax(lp_logits(key, weight=weight, bias=bias, alpha=alpha, text=text))
            errors.append([(share - (c == label)) / len(keys) for c, share in enumerate(shares)])
        for c in classes:
            own = [error[c] for error in errors]
            slope = math.fsum(e * dot(key, text[c]) for e, key in zip(own, keys, strict=True))
            gathered[c] = slope + (gathered[c] if running_sum else 0.0)
            for d in dims:
                speed[c][d] = 0.9 * speed[c][d] + math.fsum(e * key[d] for e, key in zip(own, keys, strict=True))
                weight[c][d] -= weight_step * speed[c][d]
            bias_speed[c] = 0.9 * bias_speed[c] + math.fsum(own)
            bias[c] -= weight_step * bias_speed[c]
            if epoch % 10 == 0:
                alpha[c] -= text_step * gathered[c]
    return {"weight": weight, "bias": bias, "alpha": alpha, "text": text}
