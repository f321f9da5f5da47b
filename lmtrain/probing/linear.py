"""Fits a linear classifier of tokens; its regularization is chosen on a held-out part of the training set."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix
    from sklearn.linear_model import LogisticRegression

STRENGTHS = tuple(10 ** (exponent / 2) for exponent in range(-9, 5))
"""scikit-learn's C, from the strongest regularization to the weakest."""
_WORSE = 2  # times in a row that the loss is no better, after which weaker regularization is not tried
_ITERATIONS, _TOLERANCE = 200, 1e-3


@dataclass(frozen=True)
class Fitted:
    """A classifier, and the C that was chosen for it."""

    classifier: "LogisticRegression"
    c: float


def fit_linear(
    features: "np.ndarray | csr_matrix", tags: Sequence[str], learned: int, strengths: Sequence[float] = STRENGTHS
) -> Fitted:
    """Multinomial logistic regression with an L2 penalty.

    Its C is the one with the lowest loss on the other tokens after fitting the first `learned` ones. With that C it is
    fitted to all tokens.

    Args:
        features: float32 `(tokens, D)`.
        tags: the tags of all tokens, at least two different ones.
        learned: how many tokens are fitted to choose C.
        strengths: values of C to choose from, ascending.
    """
    known = np.asarray(tags)
    least, best_c, worse = np.inf, strengths[0], 0
    for c in strengths if len(set(known[:learned])) > 1 else ():
        classifier = _fit(features[:learned], known[:learned], c)
        loss = _loss(classifier, features[learned:], known[learned:])
        if loss < least:
            least, best_c, worse = loss, c, 0
        else:
            worse += 1
            if worse == _WORSE:
                break
    return Fitted(_fit(features, known, best_c), best_c)


def _loss(classifier: "LogisticRegression", features: "np.ndarray | csr_matrix", tags: np.ndarray) -> float:
    """The sum of negative log-probabilities, in nats, over tokens whose tag the classifier knows."""
    from sklearn.metrics import log_loss

    is_known = np.isin(tags, classifier.classes_)
    if not is_known.any():
        return 0.0
    probabilities = classifier.predict_proba(features[is_known])
    return float(log_loss(tags[is_known], probabilities, normalize=False, labels=classifier.classes_))


def _fit(features: "np.ndarray | csr_matrix", tags: np.ndarray, c: float) -> "LogisticRegression":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression

    with warnings.catch_warnings():
        # it comes only where regularization is too weak to be chosen
        warnings.simplefilter("ignore", ConvergenceWarning)
        return LogisticRegression(C=c, max_iter=_ITERATIONS, tol=_TOLERANCE).fit(features, tags)
