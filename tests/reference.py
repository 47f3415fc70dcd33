"""Each paper formula as a slow literal loop; the tests compare the library with these."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

# augment


def stopped_bins(size: tuple[int, int], inner: float, outer: float, cross: float, cross_from: float = 20) -> Tensor:
    """Ellis et al., frequency masking: (H, W) bool in fft2's layout, True where ring or X stop a bin."""
    height, width = size
    stop = torch.zeros(height, width, dtype=torch.bool)
    for row in range(height):
        for column in range(width):
            u = row if row <= (height - 1) // 2 else row - height
            v = column if column <= (width - 1) // 2 else column - width
            r = math.sqrt(u * u + v * v)
            ring = inner <= r <= outer
            # bins of the shorter side: |u| / H and |v| / W, both times min(H, W); integers keep it exact
            off = abs(abs(u) * width - abs(v) * height) / max(height, width)
            arm = r > outer and outer > cross_from and cross > 0 and off <= cross / 2
            stop[row, column] = ring or arm
    return stop


def band_stopped(image: Tensor, stop: Tensor) -> Tensor:
    """Filter one (C, H, W) image by the full, shifted spectrum, channel by channel."""
    channels = []
    for channel in image:
        spectrum = torch.fft.fftshift(torch.fft.fft2(channel))
        spectrum[torch.fft.fftshift(stop)] = 0
        channels.append(torch.fft.ifft2(torch.fft.ifftshift(spectrum)).real)
    return torch.stack(channels)


def jigsawed(image: Tensor, order: list[int], grid: tuple[int, int]) -> Tensor:
    """Copy the patches of one (C, H, W) image one by one: slot k receives patch order[k]."""
    out = torch.empty_like(image)
    height, width = image.shape[1] // grid[0], image.shape[2] // grid[1]
    for slot, source in enumerate(order):
        r, s = divmod(slot, grid[1])
        i, j = divmod(source, grid[1])
        out[:, r * height : (r + 1) * height, s * width : (s + 1) * width] = image[
            :, i * height : (i + 1) * height, j * width : (j + 1) * width
        ]
    return out


def mirrored_cross(i: int, j: int, grid: tuple[int, int]) -> dict[int, int]:
    """Cross-patch jigsaw, focal slot -> source: both strips reversed, the crossing patch kept."""
    rows, columns = grid
    order = {i * columns + j: i * columns + j}
    strip = [s for s in range(columns) if s != j]
    for slot, source in zip(strip, reversed(strip), strict=True):
        order[i * columns + slot] = i * columns + source
    strip = [r for r in range(rows) if r != i]
    for slot, source in zip(strip, reversed(strip), strict=True):
        order[slot * columns + j] = source * columns + j
    return order


# losses


def cosine(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a @ b) / (a.norm() * b.norm())


def nt_xent(z0, z1, temperature):
    z, n = torch.cat([z0, z1]), len(z0)
    losses = []
    for i in range(2 * n):
        similarity = [torch.exp(cosine(z[i], z[j]) / temperature) for j in range(2 * n)]
        losses.append(-torch.log(similarity[(i + n) % (2 * n)] / sum(s for j, s in enumerate(similarity) if j != i)))
    return sum(losses) / len(losses)


def info_nce(query, positive, negatives, temperature, ids=None, negative_ids=None):
    losses = []
    for i in range(len(query)):
        if negatives is None:
            others = [positive[j] for j in range(len(positive)) if j != i]
            labels = None if ids is None else [ids[j] for j in range(len(positive)) if j != i]
        else:
            others = list(negatives if negatives.ndim == 2 else negatives[i])
            labels = negative_ids if negative_ids is None or negative_ids.ndim == 1 else negative_ids[i]
        if ids is not None:
            others = [row for row, label in zip(others, labels, strict=True) if label != ids[i]]
        top = torch.exp(cosine(query[i], positive[i]) / temperature)
        rest = sum(torch.exp(cosine(query[i], n) / temperature) for n in others)
        losses.append(-torch.log(top / (top + rest)))
    return sum(losses) / len(losses)


def nce(query, positive, negatives, population, temperature):
    n, k = negatives.shape[:2]
    scores = [
        [torch.exp(cosine(query[i], row) / temperature) for row in (positive[i], *negatives[i])] for i in range(n)
    ]
    z = population * sum(s for row in scores for s in row) / (n * (k + 1))
    noise = k / population
    loss = 0.0
    for own, *others in scores:
        loss = loss - torch.log((own / z) / (own / z + noise))
        for other in others:
            loss = loss - torch.log(noise / (other / z + noise))
    return loss / n


def relation(head, anchor, positive, negatives):
    """`head` holds (weight, bias, weight, bias) and the scale; negatives are (N, K, D)."""
    w1, b1, w2, b2, scale = head

    def h(a, b):
        return torch.sigmoid(w2 @ torch.relu(w1 @ (scale * a * b) + b1) + b2).squeeze()

    n, k = negatives.shape[:2]
    loss = 0.0
    for i in range(n):
        loss = loss + (h(anchor[i], positive[i]) - 1) ** 2
        for j in range(k):
            loss = loss + h(anchor[i], negatives[i, j]) ** 2 / k
    return loss / n


def perceptual(image, patches):
    losses = []
    for i in range(len(image)):
        for j in range(patches.shape[1]):
            a = torch.stack([image[i, f].mean() for f in range(image.shape[1])])
            b = torch.stack([patches[i, j, f].mean() for f in range(image.shape[1])])
            losses.append(((a - b) ** 2).mean())
    return sum(losses) / len(losses)


def byol(prediction, target):
    return sum(2 - 2 * cosine(p, t) for p, t in zip(prediction, target, strict=True)) / len(prediction)


def masked_l1(prediction, target, mask):
    total, count = 0.0, 0
    for b, c, y, x in itertools.product(*map(range, prediction.shape)):
        if mask[b, 0, y, x]:
            total, count = total + abs(prediction[b, c, y, x] - target[b, c, y, x]), count + 1
    return total / count


def local_contrastive(f0, f1, others, temperature, region):
    """`others` (B, regions, K): the negatives of each region, numbered row by row."""
    columns = f0.shape[3] // region

    def vector(f, b, g):
        y, x = g // columns * region, g % columns * region
        return f[b, :, y : y + region, x : x + region].flatten()

    losses = []
    for b, g in itertools.product(range(len(f0)), range(others.shape[1])):
        for own, twin in ((f0, f1), (f1, f0)):
            anchor = vector(own, b, g)
            top = torch.exp(cosine(anchor, vector(twin, b, g)) / temperature)
            negatives = [vector(f, b, n) for f in (f0, f1) for n in others[b, g].tolist()]
            rest = sum(torch.exp(cosine(anchor, n) / temperature) for n in negatives)
            losses.append(-torch.log(top / (top + rest)))
    return sum(losses) / len(losses)


# metrics


def feature_std(z):
    n, d = z.shape
    unit = [[z[i, j] / z[i].norm() for j in range(d)] for i in range(n)]
    total = 0.0
    for j in range(d):
        mean = sum(unit[i][j] for i in range(n)) / n
        total = total + math.sqrt(sum((unit[i][j] - mean) ** 2 for i in range(n)) / (n - 1))
    return total / d


def alignment(z0, z1, alpha):
    return sum((a / a.norm() - b / b.norm()).norm() ** alpha for a, b in zip(z0, z1, strict=True)) / len(z0)


def uniformity(z, t):
    pairs = list(itertools.combinations(range(len(z)), 2))
    total = sum(torch.exp(-t * (z[i] / z[i].norm() - z[j] / z[j].norm()).norm() ** 2) for i, j in pairs)
    return torch.log(total / len(pairs))


def effective_rank(z):
    """With the published 1e-7; the singular values are the roots of the Gram matrix's eigenvalues."""
    values = [math.sqrt(max(v, 0.0)) for v in torch.linalg.eigvalsh(z.T @ z).tolist()]
    shares = [v / sum(values) + 1e-7 for v in values]
    return math.exp(-sum(p * math.log(p) for p in shares))


def lidar(z, delta):
    """The eigenvalues of the whitened covariance of the means, whose root of the inverse is made from eigenvectors."""
    n, q, d = z.shape
    means = [sum(z[i, j] for j in range(q)) / q for i in range(n)]
    mean = sum(means) / n
    within, between = delta * torch.eye(d, dtype=z.dtype), torch.zeros(d, d, dtype=z.dtype)
    for i in range(n):
        between += torch.outer(means[i] - mean, means[i] - mean) / n
        for j in range(q):
            within += torch.outer(z[i, j] - means[i], z[i, j] - means[i]) / (n * q)
    values, vectors = torch.linalg.eigh(within)
    root = vectors @ torch.diag(values**-0.5) @ vectors.T
    found = [max(v, 0.0) for v in torch.linalg.eigvalsh(root @ between @ root).tolist()]
    shares = [v / sum(found) for v in found]
    return math.exp(-sum(p * math.log(p) for p in shares if p > 0))


def knn_predictions(train, labels, test, classes, k, temperature):
    found = []
    for row in test:
        similar = [float(cosine(row, other)) for other in train]
        nearest = sorted(range(len(train)), key=lambda i: -similar[i])[:k]
        votes = [sum(math.exp(similar[i] / temperature) for i in nearest if labels[i] == c) for c in range(classes)]
        found.append(votes.index(max(votes)))
    return found


def linear_probe_predictions(train, labels, test, classes, ridge):
    """Least squares with an intercept that is not penalised, on standardised features; no feature is constant."""
    n, d = train.shape
    mean = [sum(train[:, j]) / n for j in range(d)]
    scale = [math.sqrt(sum((train[:, j] - mean[j]) ** 2) / n) for j in range(d)]
    x, y = (
        torch.stack([torch.cat([(row - torch.stack(mean)) / torch.tensor(scale), row.new_ones(1)]) for row in rows])
        for rows in (train, test)
    )
    penalty = ridge * d * torch.eye(d + 1, dtype=train.dtype)  # the mean eigenvalue of the Gram matrix is d
    penalty[d, d] = 0
    scores = [
        y @ torch.linalg.inv(x.T @ x + penalty) @ x.T @ torch.tensor([float(c == k) for c in labels], dtype=x.dtype)
        for k in range(classes)
    ]
    return torch.stack(scores).argmax(0).tolist()


def looked_up(image: Tensor, x: float, y: float) -> float:
    """The value of an image (H, W) at a place from -1 to 1 between its borders, bilinearly, 0 beyond."""
    height, width = image.shape
    column, row = (x + 1) * width / 2 - 0.5, (y + 1) * height / 2 - 0.5
    total = 0.0
    for i in (math.floor(row), math.floor(row) + 1):
        for j in (math.floor(column), math.floor(column) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(row - i)) * (1 - abs(column - j)) * float(image[i, j])
    return total


def chosen_place(share: float, counts: list[int]) -> tuple[int, float]:
    """The cell in which a share of all is reached, and the place there, from -1 to 1 over the cells."""
    left = share * sum(counts)
    for k, count in enumerate(counts):
        if left < count:
            return k, 2 * (k + left / count) / len(counts) - 1
        left -= count
    raise AssertionError("a share of 1 or more")


def synthetic_lesion(scan: Tensor, other: Tensor, p: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """A lesion in a scan (H, W) of at most 32 pixels a side that is bright all over, pixel by pixel."""
    height, width = scan.shape
    half = min(height, width) / 2
    places = [[((2 * j + 1) / width - 1, (2 * i + 1) / height - 1) for j in range(width)] for i in range(height)]

    def sampled(image: Tensor, affine: Tensor) -> Tensor:
        (a, b, c), (d, e, f) = affine.tolist()
        black = image.min()
        heights = [[looked_up(image - black, a * x + b * y + c, d * x + e * y + f) for x, y in row] for row in places]
        return torch.tensor(heights, dtype=scan.dtype) + black

    tissue, texture = sampled(scan, p["background"]), sampled(other, p["other_part"])
    columns = [height_of_box(height) if -0.6 <= x <= 0.6 else 0 for x, _ in places[0]]
    centre_x = chosen_place(float(p["place"][0]), columns)[1]
    rows = [1 if -0.6 <= (2 * i + 1) / height - 1 <= 0.5 else 0 for i in range(height)]
    centre_y = chosen_place(float(p["place"][1]), rows)[1]
    noise = sum(
        strength * torch.nn.functional.interpolate(p[name][None], (height, width), mode="bicubic")[0, 0]
        for name, strength in (("coarse", 1.0), ("fine", 0.5))
    )
    (rx, ry), tilt = p["radii"].tolist(), float(p["tilt"])
    mask = torch.zeros(height, width, dtype=torch.bool)
    border, shadow = torch.zeros_like(scan), torch.zeros_like(scan)
    for i in range(height):
        for j in range(width):
            dx = (places[i][j][0] - centre_x) * (width / 2) / half
            dy = (places[i][j][1] - centre_y) * (height / 2) / half
            u = (math.cos(tilt) * dx + math.sin(tilt) * dy) / rx
            v = (math.cos(tilt) * dy - math.sin(tilt) * dx) / ry
            s = 1 - math.hypot(u, v) + float(p["roughness"] * noise[i, j])
            mask[i, j] = s > 0
            border[i, j] = 1 / (1 + math.exp(-s * float(p["sharpness"])))
            side, start = (0.8 - abs(dx) / rx) / 0.15, (dy / ry - 0.3) / 0.15
            shadow[i, j] = float(p["shadow"]) / ((1 + math.exp(-side)) * (1 + math.exp(-start)))
    gray = tissue[mask].mean()
    lesion = gray * p["level"] + 2 * gray * p["texture"] * (texture - texture.mean())
    image = (1 - border) * tissue * shadow.exp() + border * lesion
    return image.clamp(0, 1), mask


def height_of_box(height: int) -> int:
    """How many of `height` rows may hold the centre of a lesion."""
    return sum(-0.6 <= (2 * i + 1) / height - 1 <= 0.5 for i in range(height))
