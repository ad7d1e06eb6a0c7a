"""Lower precisions, other optimizers and compilation: the same promises."""

from __future__ import annotations

import math

import pytest
import torch

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier
from tests.builders import tiny_marian, tiny_trainer

IDS = torch.arange(3, 19).reshape(2, 8)


def _config(method: str = "chts", **changes) -> CHTsConfig:
    values = {"method": method, "sparsity": 0.8, "update_interval": 2, "rewarm_steps": 0}
    if method == "mest":
        values["density_schedule"] = "constant"  # so that one count holds for all
    return CHTsConfig(**values | changes)


def _check(sparsifier, optimizer) -> None:
    for target in sparsifier.targets:
        mask = sparsifier.masks[target.name]
        assert int(mask.sum()) == round(0.2 * mask.numel())
        assert (target.weight[~mask] == 0).all()
        assert torch.isfinite(target.weight).all()
        for value in optimizer.state[target.weight].values():
            if torch.is_tensor(value) and value.shape == mask.shape:
                assert (value[~mask] == 0).all()


def _scaled_run(
    method: str,
    scale: float | None,
    *,
    autocast: bool = False,
    overflow: int = -1,
    fused: bool = False,
):
    model = tiny_marian()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, fused=fused)
    scaler = torch.amp.GradScaler("cpu", init_scale=scale or 1.0, enabled=scale is not None)
    sparsifier = Sparsifier(model, optimizer, _config(method), 20, scaler=scaler)
    for step in range(8):
        with torch.autocast("cpu", torch.float16, enabled=autocast):
            loss = model(input_ids=IDS, labels=IDS).loss
        scaler.scale(loss * (math.inf if step == overflow else 1)).backward()
        scaler.step(optimizer)
        scaler.update()
        sparsifier.step()
        optimizer.zero_grad()
    return sparsifier, optimizer


@pytest.mark.parametrize("method", ["mest", "rigl"])
def test_a_loss_scale_does_not_change_what_gradients_say(method):
    """MEST adds the gradient to the weight; times 2^16 it would drown it."""
    plain, _ = _scaled_run(method, None)
    scaled, _ = _scaled_run(method, 2.0**16)
    assert plain.updates == scaled.updates == 4
    for name, mask in plain.masks.items():
        assert torch.equal(mask, scaled.masks[name]), name


@pytest.mark.parametrize("method", ["chts", "rigl", "mest"])
@pytest.mark.parametrize("overflow", [2, 3])
@pytest.mark.parametrize("fused", [False, True])
def test_fp16_with_a_scaler_whose_skipped_steps_do_not_count(method, overflow, fused):
    """A fused optimizer is called at an overflow too, and skips inside."""
    sparsifier, optimizer = _scaled_run(
        method, 2.0**10, autocast=True, overflow=overflow, fused=fused
    )
    assert sparsifier.step_count == 7
    assert sparsifier.updates == 3
    _check(sparsifier, optimizer)


@pytest.mark.parametrize("method", ["chts", "rigl", "mest", "set"])
def test_pure_bf16_weights_lose_nothing(method):
    """A link that rounds to 0 is a link; and what comes back has its old value, bit for bit."""
    model = tiny_marian().to(torch.bfloat16)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    sparsifier = Sparsifier(model, optimizer, _config(method, regrow_init="history"), 20)
    tiny = sparsifier.targets[0]
    tiny.weight.data[sparsifier.masks[tiny.name]] = 1e-41  # rounds to a subnormal, then to 0
    for _ in range(8):
        past = {name: values.clone() for name, values in sparsifier._history.items()}
        old = {name: mask.clone() for name, mask in sparsifier.masks.items()}
        model(input_ids=IDS, labels=IDS).loss.backward()
        optimizer.step()
        weights = {t.name: t.weight.detach().clone() for t in sparsifier.targets}
        sparsifier.step()
        optimizer.zero_grad()
        for target in sparsifier.targets:
            name, mask = target.name, sparsifier.masks[target.name]
            assert torch.equal(target.weight[mask & ~old[name]], past[name][mask & ~old[name]])
            gone = old[name] & ~mask
            assert torch.equal(sparsifier._history[name][gone], weights[name][gone])
        _check(sparsifier, optimizer)
    assert sparsifier.updates == 4


@pytest.mark.parametrize("kind", [{"fused": True}, {"foreach": True}, {"amsgrad": True}])
def test_fused_and_foreach_adamw_are_adamw(kind):
    def run(**options):
        model = tiny_marian()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.1, **options)
        sparsifier = Sparsifier(model, optimizer, _config(), 20)
        for _ in range(6):
            model(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
            sparsifier.step()
            optimizer.zero_grad()
            _check(sparsifier, optimizer)
        return sparsifier

    plain = run(foreach=False, amsgrad="amsgrad" in kind)
    other = run(**kind)
    for mine, theirs in zip(plain.targets, other.targets, strict=True):
        torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-3, atol=1e-5)
        assert torch.equal(plain.masks[mine.name], other.masks[mine.name])


@pytest.mark.gpu
def test_an_8_bit_optimizer():
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    model = tiny_marian().cuda()
    optimizer = bitsandbytes.optim.AdamW8bit(model.parameters(), lr=1e-3, min_8bit_size=0)
    sparsifier = Sparsifier(model, optimizer, _config(), 20)
    for _ in range(6):
        model(input_ids=IDS.cuda(), labels=IDS.cuda()).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
        for target in sparsifier.targets:
            assert (target.weight[~sparsifier.masks[target.name]] == 0).all()
    assert sparsifier.updates == 3


@pytest.mark.slow
@pytest.mark.parametrize("method", ["chts", "rigl"])
def test_an_update_breaks_no_graph_and_compiles_nothing_again(method):
    counters = torch._dynamo.utils.counters

    def run(*, sparse: bool) -> tuple[list[int], int]:
        torch._dynamo.reset()
        counters.clear()
        model = tiny_marian()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        sparsifier = Sparsifier(model, optimizer, _config(method), 20) if sparse else None
        compiled = torch.compile(model, backend="aot_eager")
        graphs = []
        for _ in range(6):
            compiled(input_ids=IDS, labels=IDS).loss.backward()
            optimizer.step()
            if sparsifier is not None:
                sparsifier.step()
            optimizer.zero_grad()
            graphs.append(counters["stats"]["unique_graphs"])
        if sparsifier is not None:
            assert sparsifier.updates == 3
            _check(sparsifier, optimizer)
        return graphs, sum(counters["graph_break"].values())

    graphs, breaks = run(sparse=False)
    assert graphs[0] > 0
    assert run(sparse=True) == (graphs, breaks)
    assert graphs[-1] == graphs[0]


@pytest.mark.slow  # a minute or two of compiling
@pytest.mark.parametrize("method", ["chts", "rigl"])
def test_the_trainer_compiles_once(tmp_path, method):
    """``torch_compile=True`` with its default backend: updates cause no further graph."""
    torch._dynamo.reset()
    callback = CHTsCallback(_config(method))
    trainer = tiny_trainer(tmp_path, [callback], torch_compile=True)
    graphs = []
    step = trainer.training_step

    def counted(*args, **kwargs):
        loss = step(*args, **kwargs)
        graphs.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])
        return loss

    trainer.training_step = counted
    trainer.train()
    sparsifier = callback.sparsifier
    assert sparsifier.updates >= 3
    _check(sparsifier, sparsifier._optimizer)
    assert graphs[0] > 0
    assert graphs[-1] == graphs[1]  # the second batch may have another length
