"""Loss, output error and right predictions from logits. Only this module divides by the batch size N of a mean loss.

Axes: R replica, N example, C output. One output means two classes and a sigmoid; more mean a softmax over C classes.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

LOSS_SCALES = ("mean", "sum")
"""The loss of a mini-batch: the mean over its examples, or their sum (the paper's released code).

docs/explanation/paper.md lists what else that code does.
"""


def output_error(logits_RNC: Tensor, labels_RN: Tensor, scale: str = "mean") -> Tensor:
    """e = ∂L/∂z of the mean cross-entropy: `(σ(z) − y)/N` for one output, `(softmax(z) − onehot(y))/N` for more.

    Args:
        logits_RNC: logits z.
        labels_RN: int64 labels, 0 … C−1 (0 or 1 for one output); R may be 1 to serve every replica.
        scale: one of `LOSS_SCALES`; the error of the summed cross-entropy lacks the 1/N.

    Returns:
        [R, N, C]: the error that every method starts from. With its 1/N, sums over examples are mean gradients.
    """
    if logits_RNC.shape[2] == 1:
        error = torch.sigmoid(logits_RNC) - labels_RN.unsqueeze(2)
    else:
        error = torch.softmax(logits_RNC, 2) - _onehot(logits_RNC, labels_RN)
    return error if scale == "sum" else error.div_(logits_RNC.shape[1])


def targets(like_RNC: Tensor, labels_RN: Tensor) -> Tensor:
    """y* [R or 1, N, C] with the type of `like_RNC` [R, N, C]: one-hot, or the label itself for one output."""
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
