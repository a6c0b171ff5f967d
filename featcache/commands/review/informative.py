"""Images that tell most: the model is unsure of each, and each is unlike the others."""

import numpy as np
from numpy.typing import NDArray


def informative(
    X: NDArray[np.float32], P: NDArray[np.float64], count: int, seed: int
) -> NDArray[np.intp]:
    """Rows by BADGE (Ash, Zhang, Krishnamurthy, Langford and Agarwal, ICLR 2020).

    The gradient of the loss with respect to a linear last layer, were the prediction
    the label, is the outer product of (p - one-hot of the prediction) and the
    embedding: it is long where the model is unsure. Seeding of k-means++ on these
    gradients (Arthur and Vassilvitskii, SODA 2007) prefers long ones that are far from
    those already taken; zero counts as taken, as what is certain tells nothing.
    Embeddings are centred and scaled to a mean norm of 1 first.
    The products are never formed: <a x g, b x h> = <a, b> <g, h>.

    Args:
        X: Embeddings, (N, D).
        P: Out-of-fold probabilities, (N, C).
        count: How many rows.
        seed: Of the draws; the first row is the one with the longest gradient.

    Returns:
        (min(``count``, N),) row numbers, each once, in the order they were taken.
    """
    if not len(X):
        return np.empty(0, np.intp)
    rows = X - X.mean(axis=0)
    rows /= max(float(np.linalg.norm(rows, axis=1).mean()), 1e-12)
    errors = P.copy()
    errors[np.arange(len(P)), P.argmax(axis=1)] -= 1
    squared = (errors**2).sum(axis=1) * (rows**2).sum(axis=1, dtype=np.float64)
    rng = np.random.default_rng(seed)
    taken = [int(squared.argmax())]
    apart = squared.copy()
    while len(taken) < min(count, len(X)):
        last = taken[-1]
        products = (errors @ errors[last]) * (rows @ rows[last])
        apart = np.minimum(apart, squared + squared[last] - 2 * products).clip(min=0)
        apart[taken] = 0
        total = apart.sum()
        if total > 0:
            taken.append(int(rng.choice(len(X), p=apart / total)))
        else:  # the rest is as certain as can be, or equal to what was taken
            taken.append(int(np.setdiff1d(np.arange(len(X)), taken)[0]))
    return np.array(taken, np.intp)
