"""Training FLOPs of a method, by the integral of its density over the steps."""

from __future__ import annotations

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
    for pattern, changes in config.overrides.items():
        if changes.keys() & {"sparsity", "initial_sparsity"}:
            raise ValueError(f"overrides[{pattern!r}] changes the sparsity of some layers only")
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
    2dN for the gradient of its inputs and 2dN for that of its weights. A method that regrows or
    removes by the dense gradient pays 2N in place of the last in the steps before its updates:

    .. math:: \frac{1}{T} \sum_{t=1}^{T} \frac{4 d_t + 2 g_t}{6},\qquad
              g_t = 1 \text{ where the dense gradient is needed, else } d_t

    which is the mean density (its integral over the steps) but for the few steps with a dense
    gradient. Embeddings, attention's own products and the output layer are the same for all
    methods and left out. These are operations that a sparse kernel would need; masked dense
    training, as done here, takes those of a dense model.

    Args:
        config: the method's configuration.
        total_steps: optimizer steps of the whole run.

    Example:
        >>> relative_training_flops(CHTsConfig(method="static", sparsity=0.9), 1000)
        0.1
    """
    per_step = densities(config, total_steps)
    if config.is_dense:
        return 1.0
    plan = Plan(config, total_steps)
    total = sum(
        4 * density + 2 * (1.0 if config.needs_gradient and plan.is_update(step) else density)
        for step, density in enumerate(per_step, start=1)
    )
    return round(total / (6 * total_steps), 6)
