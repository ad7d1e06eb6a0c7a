"""Training FLOPs of a method, by the integral of its density over the steps."""

from __future__ import annotations

from collections.abc import Sequence

from chts_hf.config import CHTsConfig
from chts_hf.plan import Plan


def densities(config: CHTsConfig, total_steps: int) -> list[float]:
    """The density of the sparsified layers in each optimizer step.

    Step t (from 1) computes with the links that were there after the last update before it.

    Args:
        config: the method's configuration.
        total_steps: optimizer steps of the whole run.

    Returns:
        One number in (0, 1] for each step.

    Raises:
        ValueError: ``overrides`` give layers sparsities of their own, so that there is no one
            density without knowing the model.
    """
    _refuse_overrides(config, "sparsity", "initial_sparsity")
    if config.is_dense:
        return [1.0] * total_steps
    plan = Plan(config, total_steps)
    final = config.sparsity
    falls = config.density_schedule != "constant" and config.initial_sparsity is not None
    initial = config.initial_sparsity if falls else final
    assert initial is not None
    sparsity, found = initial, []
    for step in range(1, total_steps + 1):
        found.append(1.0 - sparsity)
        if plan.is_update(step):
            sparsity = plan.sparsity(step, initial, final)
    return found


def relative_training_flops(config: CHTsConfig, total_steps: int) -> float:
    r"""Training FLOPs of the sparsified layers, as a fraction of those of dense training.

    A step of a layer with N weights and density d costs, for each token, 2dN operations forward,
    2dN for the gradient of its inputs and 2dN for that of its weights. A method that regrows by
    the dense gradient (RigL, GraNet) pays 2N in place of the last in the steps before its updates:

    .. math:: \frac{1}{T} \sum_{t=1}^{T} \frac{4 d_t + 2 g_t}{6},\qquad
              g_t = 1 \text{ where the dense gradient is needed, else } d_t

    which is the mean density (its integral over the steps) but for the few steps with a dense
    gradient. Removal by weight and gradient (MEST) looks at links alone, whose gradients are there
    anyway. Embeddings, attention's own products and the output layer are the same for all methods
    and left out. So is the work of the updates themselves, which is most for link scores: see
    :func:`scoring_flops`. These are operations that a sparse kernel would need; masked dense
    training, as done here, takes those of a dense model.

    Args:
        config: the method's configuration.
        total_steps: optimizer steps of the whole run.

    Raises:
        ValueError: ``overrides`` make layers differ in density or regrowth.

    Example:
        >>> relative_training_flops(CHTsConfig(method="static", sparsity=0.9), 1000)
        0.1
    """
    _refuse_overrides(config, "regrowth")
    per_step = densities(config, total_steps)
    if config.is_dense:
        return 1.0
    plan = Plan(config, total_steps)
    by_gradient = config.regrowth == "gradient"
    total = sum(
        4 * density + 2 * (1.0 if by_gradient and plan.is_update(step) else density)
        for step, density in enumerate(per_step, start=1)
    )
    return round(total / (6 * total_steps), 6)


def scoring_flops(
    config: CHTsConfig, total_steps: int, shapes: Sequence[tuple[int, int]], tokens: int
) -> float:
    r"""FLOPs of node-based link scores, as a fraction of those of dense training.

    CHTs and CHTss score a layer of shape (m, n) at each update by four products: the mask with its
    transpose on either side (2m²n and 2n²m operations) and the two similarities with the mask
    (the same again), against 6mn for each token of a dense training step. So U updates in T steps
    of B tokens cost

    .. math:: \frac{U}{T} \frac{\sum 4 m n (m + n)}{\sum 6 m n B}

    of dense training; a kernel that skips the mask's zeros needs the density's share of it.

    Args:
        config: the method's configuration.
        total_steps: optimizer steps of the whole run.
        shapes: of the sparsified layers.
        tokens: that each layer sees in a step.

    Example:
        >>> scoring_flops(CHTsConfig(method="chts", update_interval=10), 100, [(8, 8)], 32)
        0.023333
    """
    plan = Plan(config, total_steps)
    updates = sum(plan.is_update(step) for step in range(1, total_steps + 1))
    scores = sum(4 * m * n * (m + n) for m, n in shapes)
    training = sum(6 * m * n * tokens for m, n in shapes)
    return round(updates * scores / (total_steps * training), 6)


def _refuse_overrides(config: CHTsConfig, *names: str) -> None:
    for pattern, changes in config.overrides.items():
        for name in changes.keys() & set(names):
            raise ValueError(
                f"overrides[{pattern!r}] changes the {name} of some layers only; one number for "
                "all layers cannot tell what training costs"
            )
