"""Linear classifiers from class means, and the ones they are measured against (the thesis's section 4.3).

"Opposite" projects onto mean+ - mean-, "zero" onto mean+ itself. A direction is made from one set of points
and scored on another; scores are compared by the area under the ROC curve, which needs no threshold.
"""

import numpy as np
from scipy import stats
from scipy.optimize import linprog
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from glowkit.errors import GlowkitError
from glowkit.gaussianity import project
from glowkit.intervals import Estimate, bootstrap, wilson

__all__ = [
    "Estimate", "auc", "bootstrap", "class_means", "comparators", "opposite_projection", "random_labels",
    "separable", "wilson", "zero_projection",
]


def _checked(labels, n: int) -> np.ndarray:
    labels = np.asarray(labels).astype(bool)
    if labels.shape != (n,) or labels.all() or not labels.any():
        raise GlowkitError(f"labels: want {n} with both classes present, got shape {labels.shape} "
                           f"with {int(labels.sum())} positives")
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


def auc(scores, labels, level: float = 0.95) -> Estimate:
    """Area under the ROC curve with DeLong's interval: the chance that a positive outscores a negative.

    scores (n,), labels (n,). Where the classes do not overlap DeLong's variance is 0; the open end is then
    the exact binomial bound of min(n+, n-) independent pairs, all won (or all lost).
    """
    scores = np.asarray(scores, dtype=np.float64)
    labels = _checked(labels, len(scores))
    positive, negative = scores[labels], scores[~labels]
    m, n = len(positive), len(negative)
    ranks = stats.rankdata(np.concatenate([positive, negative]))
    # How much of the other class each point beats: its rank among all less its rank in its own class.
    wins = (ranks[:m] - stats.rankdata(positive)) / n
    losses = 1 - (ranks[m:] - stats.rankdata(negative)) / m
    area = float(wins.mean())
    if area in (0.0, 1.0):
        open_end = ((1 - level) / 2) ** (1 / min(m, n))
        return Estimate(area, (open_end, 1.0) if area == 1.0 else (0.0, 1 - open_end), m + n)
    variance = (wins.var(ddof=1) / m if m > 1 else 0.0) + (losses.var(ddof=1) / n if n > 1 else 0.0)
    margin = float(stats.norm.ppf(0.5 + level / 2) * np.sqrt(variance))
    return Estimate(area, (max(0.0, area - margin), min(1.0, area + margin)), m + n)


def _span(x_train: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Origin (D,) and orthonormal basis (D, k) of the affine span of the training points.

    A linear classifier with a rotation-invariant penalty has its weights in this span (the representer
    theorem), so when n < D it can be fitted there, in at most n numbers a point instead of D.
    """
    origin = x_train.mean(axis=0)
    basis = np.linalg.svd(x_train - origin, full_matrices=False)
    rank = int((basis.S > basis.S[0] * 1e-6).sum())
    return origin, basis.Vh[:rank].T


def comparators(x_train, y_train, x_test, y_test, penalty: float = 1.0) -> dict[str, Estimate]:
    """Held-out AUC of the usual linear classifiers, on the split the mean projections get.

    Features (n, D), labels (n,). LDA has Ledoit-Wolf shrinkage; logistic regression and the linear SVM have a
    quadratic penalty, C = 1 / penalty, on features scaled to a mean square norm of 1.
    """
    x_train, x_test = np.asarray(x_train, dtype=np.float64), np.asarray(x_test, dtype=np.float64)
    y_train, y_test = _checked(y_train, len(x_train)), _checked(y_test, len(x_test))
    origin, basis = _span(x_train)
    train, test = (x_train - origin) @ basis, (x_test - origin) @ basis
    scale = np.sqrt((train**2).sum(axis=1).mean())
    train, test = train / scale, test / scale
    models = {
        "LDA, shrinkage": LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf()),
        "logistic regression": LogisticRegression(C=1 / penalty, max_iter=2000),
        "linear SVM": LinearSVC(C=1 / penalty, random_state=0),
    }
    return {name: auc(model.fit(train, y_train).decision_function(test), y_test)
            for name, model in models.items()}


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
    origin, basis = _span(x_train)
    model = LinearSVC(C=1e3, random_state=seed, max_iter=10_000)
    train = (x_train - origin) @ basis
    scale = np.sqrt((train**2).sum(axis=1).mean())
    model.fit(train / scale, y_train)
    hits = int((model.predict(train / scale) == y_train).sum())
    return wilson(hits, len(y_train)), auc(model.decision_function((x_test - origin) @ basis / scale), y_test)
