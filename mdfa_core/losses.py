"""Logits → loss, output error, accuracy: the only place where the mean over the batch (1/N) is taken.

Axes: R replica, N example, C output. One output means two classes and a sigmoid; more mean a softmax over C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def output_error(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """e = ∂L/∂z of the mean cross-entropy: `(σ(z) − y)/N` for one output, `(softmax(z) − onehot(y))/N` for more.

    Args:
        logits_RNC: logits z.
        labels_RN: int64 labels, 0 … C−1 (0 or 1 for one output); R may be 1 to serve every replica.

    Returns:
        [R, N, C]: the error every method starts from, so that a sum over examples is the mean gradient.
    """
    examples = logits_RNC.shape[1]
    if logits_RNC.shape[2] == 1:
        return (torch.sigmoid(logits_RNC) - labels_RN.unsqueeze(2)).div_(examples)
    return (torch.softmax(logits_RNC, 2) - _onehot(logits_RNC, labels_RN)).div_(examples)


def targets(like_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """y* [R or 1, N, C] in the type of a tensor [R, N, C]: one-hot, or the label itself for one output."""
    if like_RNC.shape[2] == 1:
        return labels_RN.unsqueeze(2).to(like_RNC.dtype)
    return _onehot(like_RNC, labels_RN)


def cross_entropy(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """Mean cross-entropy in nats per example, [R]: of a sigmoid for one output, of a softmax for more."""
    if logits_RNC.shape[2] == 1:
        logits_RN = logits_RNC.squeeze(2)
        # −log p(y) = softplus(−z) for y = 1 and softplus(z) for y = 0
        return functional.softplus(torch.where(labels_RN == 1, -logits_RN, logits_RN)).mean(1)
    log_probability = torch.log_softmax(logits_RNC, 2)
    return -(log_probability * _onehot(logits_RNC, labels_RN)).sum(2).mean(1)


def correct(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """Number of examples whose predicted class is the label, [R] (int64).

    One output predicts class 1 where z > 0; a tie of several outputs goes to the lower class. NaN predicts nothing.
    """
    if logits_RNC.shape[2] == 1:
        logits_RN = logits_RNC.squeeze(2)
        hit = torch.where(labels_RN == 1, logits_RN > 0, logits_RN <= 0)
    else:
        hit = (logits_RNC.argmax(2) == labels_RN) & ~logits_RNC.isnan().any(2)
    return hit.sum(1)


def _onehot(logits_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    classes = torch.arange(logits_RNC.shape[2], device=logits_RNC.device)
    return (labels_RN.unsqueeze(2) == classes).to(logits_RNC.dtype)
