"""The training loss, and the evaluation loss, counted token by token."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

#: The label of a position that is no target (padding).
IGNORE = -100


class TokenLoss:
    r"""Label-smoothed cross-entropy for ``Trainer(compute_loss_func=...)``, averaged over tokens.

    .. math:: L = \frac{1}{N} \sum_t \Big[ -(1-ε) \log p_t(y_t)
              - \frac{ε}{V} \sum_{v} \log p_t(v) \Big]

    with ``N`` the number of target tokens of the *whole* optimizer step: of all micro-batches and,
    with ``average_tokens_across_devices`` (the Trainer's default), of all processes. So loss and
    gradient are those of one large batch, however it is cut up. An encoder-decoder model's own
    loss is not: it is a mean over its micro-batch, which weighs short sentences more, and the
    Trainer sums it over the micro-batches without dividing by their number.

    Args:
        label_smoothing: ``ε`` in [0, 1), the weight of the uniform distribution over the ``V``
            words in the target (Szegedy et al., CVPR 2016).

    Raises:
        ValueError: ``label_smoothing`` outside [0, 1).

    Example:
        >>> Seq2SeqTrainer(..., compute_loss_func=TokenLoss(label_smoothing=0.1))
    """

    def __init__(self, label_smoothing: float = 0.0) -> None:
        if not 0.0 <= label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is {label_smoothing}; it must be in [0, 1)")
        self.label_smoothing = label_smoothing

    def __call__(
        self, outputs: Any, labels: Tensor, num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Compute the loss of one micro-batch.

        Args:
            outputs: a model output with ``logits`` (batch, length, V), or a tuple that starts
                with them.
            labels: the targets (batch, length); -100 where there is none.
            num_items_in_batch: ``N``; the micro-batch's own number of targets if not given.

        Returns:
            A scalar: this micro-batch's share of the step's loss.
        """
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        total = F.cross_entropy(
            logits.float().flatten(0, -2),
            labels.to(logits.device).flatten(),
            ignore_index=IGNORE,
            label_smoothing=self.label_smoothing,
            reduction="sum",
        )
        count = (labels != IGNORE).sum() if num_items_in_batch is None else num_items_in_batch
        if isinstance(count, Tensor):
            count = count.to(total.device)
        return total / count


def sentence_nll(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the negative log-likelihood of each sentence in nats, and its number of tokens.

    Args:
        logits: (batch, length, V).
        labels: (batch, length); -100 where there is no target.

    Returns:
        Two tensors of shape (batch,), in float64 and int64. Their sums over a data set give the
        exact token-weighted loss, which a mean over batches is not.
    """
    nll = F.cross_entropy(
        logits.float().transpose(1, 2), labels, ignore_index=IGNORE, reduction="none"
    )
    return nll.sum(dim=1, dtype=torch.float64), (labels != IGNORE).sum(dim=1)
