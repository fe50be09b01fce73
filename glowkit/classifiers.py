"""Linear classifiers from class means, and the ones they are measured against (the thesis's section 4.3).

"Opposite" projects onto mean+ - mean-, "zero" onto mean+ itself. A direction is made from one set of points
and scored on another; scores are compared by the area under the ROC curve, which needs no threshold.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy import special, stats
from scipy.optimize import brentq, linprog
from sklearn.svm import SVC
from torch import Tensor

from glowkit.errors import GlowkitError
from glowkit.gaussianity import project
from glowkit.intervals import Estimate, bootstrap, degrees_of_freedom, design_effect, group_sums, wilson

__all__ = [
    "Estimate",
    "auc",
    "auc_difference",
    "bootstrap",
    "class_means",
    "discriminants",
    "mean_differences",
    "opposite_projection",
    "penalised",
    "random_labels",
    "separable",
    "wilson",
    "zero_projection",
]

SHRINKAGES = (0.01, 0.1, 0.5, 0.9)
"""Of the covariance towards a multiple of the identity, with which the best line is the mean difference."""
PENALTIES = (0.3, 3.0, 30.0)
"""C of the penalised classifiers: from one so heavy that they become the mean difference to almost none."""


def _checked(labels, n: int) -> np.ndarray:
    labels = np.asarray(labels).astype(bool)
    if labels.shape != (n,) or labels.all() or not labels.any():
        raise GlowkitError(
            f"labels: want {n} with both classes present, got shape {labels.shape} with {int(labels.sum())} positives"
        )
    return labels


def class_means(x, labels) -> tuple[np.ndarray, np.ndarray]:
    """(mean+, mean-), each (D,), of points x (n, D) with labels (n,)."""
    x = np.asarray(x)
    labels = _checked(labels, len(x))
    return x[labels].mean(axis=0), x[~labels].mean(axis=0)


def opposite_projection(x, mean_positive, mean_negative) -> np.ndarray:
    """(n,) signed lengths of x (n, D) along mean+ - mean-."""
    return project(x, np.asarray(mean_positive) - np.asarray(mean_negative))


def zero_projection(x, mean_positive) -> np.ndarray:
    """(n,) signed lengths of x (n, D) along mean+, the line from the origin through the class mean."""
    return project(x, mean_positive)


def _placements(scores, labels) -> tuple[float, np.ndarray]:
    """The AUC and each point's part (n,) in its error (DeLong); their squares add up to its variance."""
    scores = np.asarray(scores, dtype=np.float64)
    labels = _checked(labels, len(scores))
    positive, negative = scores[labels], scores[~labels]
    m, n = len(positive), len(negative)
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    # How much of the other class each point beats: its rank among all less its rank in its own class.
    wins = (ranks[:m] - stats.rankdata(positive)) / n
    losses = 1 - (ranks[m:] - stats.rankdata(negative)) / m
    parts = np.empty(m + n)
    parts[labels] = (wins - wins.mean()) / np.sqrt(m * max(m - 1, 1))
    parts[~labels] = (losses - losses.mean()) / np.sqrt(n * max(n - 1, 1))
    return float(wins.mean()), parts


def _variance(parts: np.ndarray) -> float:
    """Of a sum of independent parts (G,), which add up to 0."""
    return float((parts**2).sum()) * len(parts) / (len(parts) - 1)


def _binormal_variance(area: float, positives: float, negatives: float) -> float:
    """Variance of an AUC from the scores of two normal classes of equal spread (Hanley and McNeil 1982, eq. 1)."""
    a = special.ndtri(area)
    # Chance that one positive outscores two negatives, or two positives one negative: a correlation of 1/2.
    both = special.ndtr(a) - 2 * special.owens_t(a, 1 / np.sqrt(3))
    return float(area * (1 - area) + (positives + negatives - 2) * (both - area**2)) / (positives * negatives)


def auc(scores, labels, groups=None, level: float = 0.95) -> Estimate:
    """Area under the ROC curve, the chance that a positive outscores a negative, with its interval.

    scores (n,), labels (n,); `groups` (n,) of images that are not independent of each other, one number a
    person. The interval holds the areas A of which the seen one is less than Student's t errors away. How the error
    depends on A is known for normal scores; its size is DeLong's, in which few positives near A = 1 see too little,
    averaged with that of normal scores as if ten more people of the smaller class had told it. Where the classes do
    not overlap the open end is the exact binomial bound of as many independent pairs, all won (or all lost), as the
    smaller class has people.
    """
    area, single = _placements(scores, labels)
    labels = np.asarray(labels).astype(bool)
    people = np.arange(len(labels)) if groups is None else np.asarray(groups)
    parts = group_sums(single, groups)
    if len(parts) < 2:
        return Estimate(area, (0.0, 1.0), len(parts))
    if area in (0.0, 1.0):
        smaller = min(len(np.unique(people[labels])), len(np.unique(people[~labels])))
        open_end = ((1 - level) / 2) ** (1 / smaller)
        return Estimate(area, (open_end, 1.0) if area == 1.0 else (0.0, 1 - open_end), len(parts))
    alike = design_effect(single, parts)
    with_it, without = labels.sum() / alike, (~labels).sum() / alike
    smaller = min(with_it, without)
    seen = _variance(parts) / _binormal_variance(area, with_it, without)
    error = np.sqrt(((smaller - 1) * seen + 10) / (smaller + 9))
    t = float(stats.t.ppf(0.5 + level / 2, degrees_of_freedom(parts)))

    def beyond(other: float) -> float:
        return abs(other - area) - t * error * np.sqrt(_binormal_variance(other, with_it, without))

    ends = [brentq(beyond, area, end) if beyond(end) > 0 else end for end in (1e-12, 1 - 1e-12)]
    return Estimate(area, (float(ends[0]), float(ends[1])), len(parts))


def auc_difference(scores, others, labels, groups=None, level: float = 0.95) -> Estimate:
    """AUC of scores less that of others on the same points, with DeLong's interval for paired curves.

    Arrays (n,), or (n, A) for A attributes: then the mean of the A differences. The attributes of an image,
    and the images of a person, are not independent, and the interval knows it. Few people with a rare attribute
    may make up most of its variance: Student's t has as many degrees of freedom as that leaves.
    """
    a, b, y = (np.asarray(array).reshape(len(labels), -1) for array in (scores, others, labels))
    difference, parts = 0.0, np.zeros(len(y))
    for k in range(y.shape[1]):
        first, second = _placements(a[:, k], y[:, k]), _placements(b[:, k], y[:, k])
        difference += (first[0] - second[0]) / y.shape[1]
        parts += (first[1] - second[1]) / y.shape[1]
    parts = group_sums(parts, groups)
    if len(parts) < 2:
        return Estimate(difference, (-1.0, 1.0), len(parts))
    margin = float(stats.t.ppf(0.5 + level / 2, degrees_of_freedom(parts)) * np.sqrt(_variance(parts)))
    return Estimate(difference, (difference - margin, difference + margin), len(parts))


def mean_differences(x: Tensor, labels) -> Tensor:
    """(D, A): mean+ - mean- of points x (n, D) for each column of labels, bool (n, A)."""
    y = torch.from_numpy(np.asarray(labels, bool)).to(x)
    return x.T @ (y / y.sum(0) - (1 - y) / (1 - y).sum(0))


def discriminants(x: Tensor, labels, shrinkages: Sequence[float] = SHRINKAGES) -> Tensor:
    """Directions (K, D, A) of linear discriminant analysis, one for each amount of shrinkage and attribute.

    x (n, D), labels bool (n, A). S^-1 (mean+ - mean-), with the covariance of all points, shrunk by s to
    S = (1 - s) C + s tr(C) / D. It differs from the covariance within the classes by a multiple of the square of
    mean+ - mean-, which changes the length of the direction alone (Sherman and Morrison), so that one factorisation
    serves all attributes; D can be some thousands, and n any number.
    """
    lines, mean = mean_differences(x, labels), x.mean(0)
    covariance = (x.T @ x).div_(len(x)).addr_(mean, mean, alpha=-1)
    even, found = float(covariance.diagonal().mean()), []
    for s in shrinkages:
        shrunk = (1 - s) * covariance
        shrunk.diagonal().add_(s * even)
        found.append(torch.cholesky_solve(lines, torch.linalg.cholesky(shrunk)))
    return torch.stack(found)


# Of margins with the sign changed.
LOSSES = {
    "logistic regression": F.softplus,
    "linear SVM": lambda margin: (1 + margin).clamp(min=0).square(),
}


def penalised(x: Tensor, labels, loss: str, penalties: Sequence[float] = PENALTIES, iterations: int = 100) -> Tensor:
    """Directions (K, D, A) of penalised classifiers, one for each penalty C and attribute, all fitted together.

    x (n, D), labels bool (n, A), loss one of LOSSES; that of the SVM is squared, as in scikit-learn's LinearSVC.
    Features are centred and scaled to a mean square norm of 1. Each iteration of L-BFGS reads them once
    for all fits, so that thousands of features of as many points take minutes. Computed in the dtype of x.
    """
    sign = torch.from_numpy(np.where(labels, 1, -1)).to(x)  # (n, A)
    mean = x.mean(0)
    scale = float((x.square().sum(1).mean() - mean.square().sum()).sqrt())
    weights = torch.zeros(x.shape[1], len(penalties), sign.shape[1]).to(x).requires_grad_()
    offsets = torch.zeros(len(penalties), sign.shape[1]).to(x).requires_grad_()
    ridge = 1 / (2 * len(x) * torch.tensor(penalties).to(x))
    optimiser = torch.optim.LBFGS(
        [weights, offsets], max_iter=iterations, history_size=20, line_search_fn="strong_wolfe", tolerance_change=1e-7
    )

    def objective() -> Tensor:
        optimiser.zero_grad()
        flat = weights.flatten(1) / scale
        margins = sign[:, None] * ((x @ flat - mean @ flat).unflatten(1, offsets.shape) + offsets)
        total = LOSSES[loss](-margins).mean(0).sum() + (ridge[:, None] * weights.square().sum(0)).sum()
        total.backward()
        return total

    optimiser.step(objective)
    return weights.detach().movedim(1, 0)


def separable(x, labels) -> bool:
    """Whether a plane (with offset) has all positives of x (n, D) on one side and all negatives on the other.

    Exact: asks the linear program y_i (w x_i + b) >= 1 for any solution.
    """
    x = np.asarray(x, dtype=np.float64)
    sign = np.where(_checked(labels, len(x)), 1.0, -1.0)[:, None]
    constraints = -sign * np.hstack([x, np.ones((len(x), 1))])
    nothing = np.zeros(constraints.shape[1])
    return linprog(nothing, A_ub=constraints, b_ub=-np.ones(len(x)), bounds=(None, None)).status == 0


def random_labels(x_train, x_test, seed: int = 0) -> tuple[Estimate, Estimate]:
    """What a linear SVM makes of coin-flip labels: its in-sample accuracy and its held-out AUC (C23).

    Perfect on the first and 0.5 on the second is what n < D means: separating a sample proves nothing.
    """
    x_train, x_test = np.asarray(x_train, dtype=np.float64), np.asarray(x_test, dtype=np.float64)
    rng = np.random.default_rng(seed)
    y_train = rng.permutation(np.arange(len(x_train)) % 2 == 0)
    y_test = rng.permutation(np.arange(len(x_test)) % 2 == 0)
    centre = x_train.mean(axis=0)
    scale = np.sqrt(((x_train - centre) ** 2).sum(axis=1).mean())
    train, test = (x_train - centre) / scale, (x_test - centre) / scale
    model = SVC(kernel="precomputed", C=1e6).fit(train @ train.T, y_train)
    hits = int((model.predict(train @ train.T) == y_train).sum())
    return wilson(hits, len(y_train)), auc(model.decision_function(test @ train.T), y_test)
