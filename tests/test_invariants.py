"""What must be true of a sparse model at every moment anyone can look at it."""

from __future__ import annotations

import math

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig
from chts_hf.translation.loss import TokenLoss
from tests.builders import tiny_marian, tiny_trainer


class Observer(TrainerCallback):
    """Looks at the model from outside at every event and writes down what is wrong."""

    def __init__(self, callback: CHTsCallback) -> None:
        self.callback = callback
        self.looks = self.gradients = self.states = 0

    def _look(self, model, optimizer) -> None:
        sparsifier = self.callback.sparsifier
        parameters = dict(model.named_parameters())
        assert sparsifier is not None
        assert sparsifier.masks
        for name, mask in sparsifier.masks.items():
            weight = parameters[name]
            self.looks += 1
            assert (weight[~mask] == 0).all(), f"{name}: weights outside the mask"
            assert weight[mask].count_nonzero() > 0
            if weight.grad is not None:
                self.gradients += 1
                assert (weight.grad[~mask] == 0).all(), f"{name}: gradients outside the mask"
            for key, value in optimizer.state.get(weight, {}).items():
                if torch.is_tensor(value) and value.shape == weight.shape:
                    self.states += 1
                    assert (value[~mask] == 0).all(), f"{name}: {key} outside the mask"

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        self._look(kwargs["model"], kwargs["optimizer"])

    def on_optimizer_step(self, args, state, control, **kwargs):
        self._look(kwargs["model"], kwargs["optimizer"])

    def on_step_end(self, args, state, control, **kwargs):
        self._look(kwargs["model"], kwargs["optimizer"])
        sparsifier = self.callback.sparsifier
        for target in sparsifier.targets:
            mask = target.view(sparsifier.masks[target.parameter_name])
            assert int(mask.sum()) == round(0.2 * math.prod(target.shape)), target.name

    def on_evaluate(self, args, state, control, **kwargs):
        self._look(kwargs["model"], kwargs["optimizer"])


SETTINGS = {
    "adamw": {},
    "adafactor": {"optim": "adafactor"},
    "sgd with momentum": {"optim": "sgd", "optim_args": "momentum=0.9"},
    "accumulation 4": {"gradient_accumulation_steps": 4},
    "tight clipping": {"max_grad_norm": 0.01},
    "no clipping": {"max_grad_norm": 0.0},
    "label smoothing": {"label_smoothing_factor": 0.1},
    "token loss": {"compute_loss_func": TokenLoss(0.1), "gradient_accumulation_steps": 2},
    "bf16 autocast": {"bf16": True},
    "activation checkpointing": {"activation_checkpointing": True},
}


CASES = [("chts", setting) for setting in SETTINGS] + [
    (method, setting)
    for method in ("set", "rigl", "static")
    for setting in ("adamw", "accumulation 4")
]


@pytest.mark.parametrize(("method", "setting"), CASES)
def test_zeros_stay_zero_and_counts_exact(tmp_path, method, setting):
    callback = CHTsCallback(CHTsConfig(method=method, sparsity=0.8, update_interval=3))
    observer = Observer(callback)
    trainer = tiny_trainer(
        tmp_path,
        [callback, observer],
        eval_strategy="steps",
        eval_steps=5,
        save_strategy="steps",
        save_steps=4,
        **SETTINGS[setting],
    )
    trainer.train()
    assert observer.looks > 100
    assert observer.gradients > 100
    assert setting == "adafactor" or observer.states > 100
    if method != "static":
        assert callback.sparsifier.updates == 3
    for step in (4, 8, 12):
        saved = load_file(tmp_path / f"checkpoint-{step}" / "model.safetensors")
        for name in callback.sparsifier.masks:
            density = saved[name].count_nonzero() / saved[name].numel()
            assert density <= 0.2 + 0.01
    for name, mask in callback.sparsifier.masks.items():
        assert (saved[name][~mask] == 0).all()


def test_clipping_sees_the_links_only(tmp_path):
    """The gradient norm that the Trainer logs is that of the links."""
    norms = []

    class Norm(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, model, **kwargs):
            gradients = [p.grad for p in model.parameters() if p.grad is not None]
            norms.append(math.sqrt(sum(float(g.norm()) ** 2 for g in gradients)))

    callback = CHTsCallback(CHTsConfig(method="static", sparsity=0.8))
    trainer = tiny_trainer(
        tmp_path, [callback, Norm()], max_grad_norm=1e9, logging_steps=1, steps=3
    )
    trainer.train()
    logged = [log["grad_norm"] for log in trainer.state.log_history if "grad_norm" in log]
    assert logged == pytest.approx(norms, rel=1e-5)


def test_dense_is_bit_identical_to_no_callback(tmp_path):
    plain = tiny_trainer(tmp_path / "a", [])
    plain.train()
    dense = tiny_trainer(tmp_path / "b", [CHTsCallback(CHTsConfig(method="dense"))])
    dense.train()
    for (name, a), b in zip(plain.model.named_parameters(), dense.model.parameters(), strict=True):
        assert torch.equal(a, b), name


class RecordBatches:
    """A loss that keeps the batches it is given, so that a test can replay them."""

    def __init__(self, trainer) -> None:
        self.batches: list[dict] = []
        step = trainer.training_step

        def recorded(model, inputs, *rest):
            self.batches.append(dict(inputs))
            return step(model, inputs, *rest)

        trainer.training_step = recorded


def test_static_equals_multiplying_by_a_fixed_mask(tmp_path):
    """The same training written out by hand: a forward pass with W * M, autograd, AdamW."""
    callback = CHTsCallback(CHTsConfig(method="static", sparsity=0.8))
    trainer = tiny_trainer(tmp_path, [callback], steps=6)
    record = RecordBatches(trainer)
    trainer.train()
    masks = callback.sparsifier.masks

    model = tiny_marian()
    decayed = set(trainer.get_decay_parameter_names(model))
    groups = [
        {"params": [p for n, p in model.named_parameters() if n in decayed], "weight_decay": 0.1},
        {"params": [p for n, p in model.named_parameters() if n not in decayed]},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-2, weight_decay=0.0)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / 6)
    for batch in record.batches:
        effective = {n: p * masks[n] if n in masks else p for n, p in model.named_parameters()}
        torch.func.functional_call(model, effective, kwargs=batch).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    trained = dict(trainer.model.named_parameters())
    for name, parameter in model.named_parameters():
        expected = parameter * masks[name] if name in masks else parameter
        torch.testing.assert_close(trained[name], expected, rtol=1e-5, atol=1e-6)
