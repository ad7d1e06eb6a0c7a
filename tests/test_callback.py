"""The callback in the Trainer's life: added wrongly, trained twice, interrupted, logged."""

from __future__ import annotations

import logging

import pytest
import torch
from transformers import TrainerCallback

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier
from tests.builders import tiny_marian, tiny_trainer


def _config(**changes) -> CHTsConfig:
    return CHTsConfig(**{"sparsity": 0.8, "update_interval": 2} | changes)


def test_added_twice(tmp_path):
    callback = CHTsCallback(_config())
    for second in (callback, CHTsCallback(_config())):
        with pytest.raises(ValueError, match="added to the Trainer twice"):
            tiny_trainer(tmp_path, [callback, second]).train()


def test_a_model_with_a_sparsifier_of_the_users_own(tmp_path):
    model = tiny_marian()
    sparsifier = Sparsifier(model, None, _config(), total_steps=10)
    with pytest.raises(ValueError, match="has a sparsifier already"):
        tiny_trainer(tmp_path, [CHTsCallback(_config())], model=model).train()
    sparsifier.close()


def test_a_run_that_was_interrupted_does_not_block_the_next(tmp_path):
    class Interrupt(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    model = tiny_marian()
    with pytest.raises(KeyboardInterrupt):
        tiny_trainer(tmp_path, [CHTsCallback(_config()), Interrupt()], model=model).train()
    callback = CHTsCallback(_config())
    tiny_trainer(tmp_path, [callback], model=model).train()
    assert callback.sparsifier.updates == 4


def test_a_second_train_goes_on_from_the_links_there_are(tmp_path):
    callback = CHTsCallback(_config())
    trainer = tiny_trainer(tmp_path, [callback])
    trainer.train()
    first = {name: mask.clone() for name, mask in callback.sparsifier.masks.items()}
    parameters = dict(trainer.model.named_parameters())
    links = {name: int((parameters[name] != 0).sum()) for name in first}
    begun = {}

    class Begin(TrainerCallback):
        def on_train_begin(self, args, state, control, **kwargs):
            begun.update({n: m.clone() for n, m in callback.sparsifier.masks.items()})

    trainer.add_callback(Begin())
    trainer.train()
    for name, mask in begun.items():
        assert (mask & ~first[name]).sum() == 0
        assert int(mask.sum()) == links[name]
        assert int(callback.sparsifier.masks[name].sum()) == links[name]


def test_the_density_is_in_the_log_history(tmp_path):
    callback = CHTsCallback(_config())
    trainer = tiny_trainer(tmp_path, [callback])
    trainer.train()
    losses = [log for log in trainer.state.log_history if "loss" in log]
    assert losses
    for log in losses:
        assert log["topology/sparsity"] == pytest.approx(0.8, abs=0.01)
        assert 0.2 <= log["topology/itop_rate"] <= 1
        assert 0 < log["topology/anp"] <= 1


@pytest.mark.parametrize(
    ("changes", "warns"),
    [({"gradient_accumulation_steps": 2}, True), ({"gradient_accumulation_steps": 1}, False)],
)
def test_a_loss_that_would_be_multiplied_is_warned_of(tmp_path, caplog, changes, warns):
    with caplog.at_level(logging.WARNING, logger="chts_hf.callback"):
        tiny_trainer(tmp_path, [CHTsCallback(_config())], **changes).train()
    assert ("come out multiplied" in caplog.text) == warns


def test_masks_cost_nothing_after_training(tmp_path):
    """Hooks are gone, so whoever trains on is not slowed down, and zeros are still zero."""
    callback = CHTsCallback(_config())
    trainer = tiny_trainer(tmp_path, [callback])
    trainer.train()
    assert not any(p._post_accumulate_grad_hooks for p in trainer.model.parameters())
    for target in callback.sparsifier.targets:
        assert (target.weight[~callback.sparsifier.masks[target.name]] == 0).all()
        assert torch.isfinite(target.weight).all()


def test_what_is_no_configuration_is_refused_at_once():
    with pytest.raises(TypeError, match="takes a CHTsConfig, not a dict.*from_dict"):
        CHTsCallback({"method": "chts"})


def test_loggers_see_the_topology(tmp_path):
    """Also those that the Trainer itself has, which stand before a user's callbacks."""

    class Logger(TrainerCallback):
        def __init__(self):
            self.seen = []

        def on_log(self, args, state, control, logs=None, **kwargs):
            self.seen.append(dict(logs))

    logger = Logger()
    trainer = tiny_trainer(tmp_path, [CHTsCallback(_config())], logging_steps=1)
    trainer.callback_handler.callbacks.insert(0, logger)
    trainer.train()
    losses = [logs for logs in logger.seen if "loss" in logs]
    assert losses
    assert all(logs["topology/sparsity"] == pytest.approx(0.8, abs=0.01) for logs in losses)


def test_an_optimizer_of_another_model_is_refused():
    other = torch.optim.AdamW(tiny_marian().parameters())
    with pytest.raises(ValueError, match="trains none of the weights"):
        Sparsifier(tiny_marian(), other, _config(), total_steps=10)
