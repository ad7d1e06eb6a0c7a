"""Lower precisions, other optimizers and compilation: the same promises."""

from __future__ import annotations

import logging
import math

import pytest
import torch
import torch.distributed as dist
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.distributed.tensor import DTensor, Shard
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import Adafactor

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier
from chts_hf.apply import write_links
from chts_hf.optimizers import _warn_of_state, clear_states
from chts_hf.targets import Target
from chts_hf.update import LayerOutput
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


def _steps(count, model, ids, optimizer, sparsifier):
    """Train; give the number of each step that was made."""
    for step in range(count):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        sparsifier.step()
        optimizer.zero_grad()
        yield step


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


@pytest.mark.gpu
@pytest.mark.parametrize("method", ["chts", "mest"])
def test_the_trainer_in_fp16_with_its_own_scaler(tmp_path, method):
    callback = CHTsCallback(_config(method))
    trainer = tiny_trainer(tmp_path, [callback], fp16=True, use_cpu=False)
    trainer.args._n_gpu = 1  # several in one process would be nn.DataParallel
    trainer.train()
    assert callback.sparsifier.updates >= 2
    _check(callback.sparsifier, callback.sparsifier._optimizer)


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
        for _ in _steps(6, model, IDS, optimizer, sparsifier):
            _check(sparsifier, optimizer)
        return sparsifier

    plain = run(foreach=False, amsgrad="amsgrad" in kind)
    other = run(**kind)
    for mine, theirs in zip(plain.targets, other.targets, strict=True):
        torch.testing.assert_close(mine.weight, theirs.weight, rtol=1e-3, atol=1e-5)
        assert torch.equal(plain.masks[mine.name], other.masks[mine.name])


def _as_floats(values: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
    return table[values.long()]


@pytest.mark.parametrize("kind", ["AdamW8bit", "AdEMAMix8bit", "Lion8bit"])
def test_bitsandbytes_in_8_bits(kind):
    bitsandbytes = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, ids = tiny_marian().to(device), IDS.to(device)
    optimizer = getattr(bitsandbytes.optim, kind)(model.parameters(), lr=1e-3, min_8bit_size=0)
    sparsifier = Sparsifier(model, optimizer, _config(), 20)
    old = {}
    for step in _steps(6, model, ids, optimizer, sparsifier):
        for target in sparsifier.targets:
            mask, state = sparsifier.masks[target.name], optimizer.state[target.weight]
            assert (target.weight[~mask] == 0).all()
            absent = ~mask | ~old.get(target.name, mask)  # what is new counts as well
            old[target.name] = mask.clone()
            if not step % 2:  # no update; bitsandbytes may round 0 to another small value
                continue
            for name in {"state1", "state2"} & state.keys():
                assert state[name].dtype == torch.uint8
                values = _as_floats(state[name], state[f"qmap{name[-1]}"])
                assert (values.reshape(-1, *mask.shape)[:, absent] == 0).all()
                assert (values != 0).any()
    assert sparsifier.updates == 3


@pytest.mark.slow  # its step is compiled
def test_torchao_in_8_bits():
    torchao = pytest.importorskip("torchao.optim", reason="torchao is not installed")
    model = tiny_marian(d_model=64, encoder_ffn_dim=64, decoder_ffn_dim=64)
    optimizer = torchao.AdamW8bit(model.parameters(), lr=1e-3)
    sparsifier = Sparsifier(model, optimizer, _config(), 20)
    for _ in _steps(4, model, IDS, optimizer, sparsifier):
        for target in sparsifier.targets:
            mask, state = sparsifier.masks[target.name], optimizer.state[target.weight]
            assert (target.weight[~mask] == 0).all()
            for name in ("exp_avg", "exp_avg_sq"):
                assert type(state[name]).__name__ == "OptimState8bit"
                values = _as_floats(state[name].codes, state[name].qmap)
                assert (values[~mask] == 0).all()
                assert name == "exp_avg_sq" or (values[mask] != 0).any()
    assert sparsifier.updates == 2


class Stored(torch.optim.SGD):
    """An optimizer with states as a test wants them."""

    def __init__(self, parameter: torch.nn.Parameter, **states: object) -> None:
        super().__init__([parameter], lr=0.1)
        self.state[parameter] = states


def test_states_of_8_bits_are_cleared_by_the_code_of_zero():
    """As bitsandbytes and torchao store them, which need not be installed for it."""
    parameter = torch.nn.Parameter(torch.zeros(32, 32))
    codes = torch.randint(1, 256, (3, 2, 32, 32), dtype=torch.uint8)
    table = torch.arange(-127.0, 129.0) / 128
    wrapped = torch.zeros(32, 32)
    wrapped.codes, wrapped.qmap = codes[0, 0].clone(), table
    moment = torch.ones(32, 32)
    optimizer = Stored(
        parameter, state1=codes[1].clone(), qmap1=table, absmax1=torch.ones(8), exp_avg=wrapped,
        state2=codes[2, 0].clone(), qmap2=table, moment=moment, row=torch.ones(32), step=3,
    )  # fmt: skip
    gone = torch.rand(32, 32) < 0.5
    clear_states(optimizer, parameter, gone)
    state = optimizer.state[parameter]
    for found, before in (
        (state["state1"][0], codes[1, 0]),
        (state["state1"][1], codes[1, 1]),
        (state["state2"], codes[2, 0]),
        (wrapped.codes, codes[0, 0]),
    ):
        assert torch.equal(found, before.masked_fill(gone, 127))
    assert torch.equal(moment, (~gone).float())
    assert torch.equal(state["qmap1"], table)
    assert torch.equal(state["row"], torch.ones(32))
    assert torch.equal(state["absmax1"], torch.ones(8))


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_states_that_are_floats_of_one_byte_are_cleared(dtype):
    parameter = torch.nn.Parameter(torch.zeros(32, 32))
    wrapped = torch.zeros(32, 32)  # as torchao's are
    wrapped.codes = torch.ones(32, 32).to(dtype)
    optimizer = Stored(parameter, moment=torch.ones(2, 32, 32).to(dtype), exp_avg=wrapped)
    gone = torch.rand(32, 32) < 0.5
    clear_states(optimizer, parameter, gone)
    for values in (*optimizer.state[parameter]["moment"], wrapped.codes):
        assert torch.equal(values.float(), (~gone).float())


def test_states_on_another_device_than_the_weights():
    """As paged optimizers have them; fake tensors refuse to be mixed as those on GPUs do."""
    with FakeTensorMode():
        parameter = torch.nn.Parameter(torch.zeros(32, 32, device="meta"))
        moment, on_device = torch.ones(32, 32), torch.ones(32, 32, device="meta")
        optimizer = Stored(parameter, moment=moment, variance=on_device)
        mask = torch.ones(32, 32, dtype=torch.bool, device="meta")
        with pytest.raises(RuntimeError, match="same device"):
            moment.masked_fill_(mask, 0)
        written = moment._version, on_device._version
        clear_states(optimizer, parameter, mask)
        target = Target("fc", "fc", parameter, "ffn.up", "ffn")
        ever, history = mask.clone(), torch.zeros(32, 32, device="meta")
        write_links(target, LayerOutput(mask, mask), mask.clone(), ever, history, optimizer)
        assert (moment._version, on_device._version) == tuple(n + 2 for n in written)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_states_on_the_host_of_weights_on_a_gpu():
    parameter = torch.nn.Parameter(torch.zeros(32, 32, device="cuda"))
    optimizer = Stored(parameter, moment=torch.ones(32, 32))
    gone = torch.rand(32, 32) < 0.5
    clear_states(optimizer, parameter, gone.cuda())
    assert torch.equal(optimizer.state[parameter]["moment"], (~gone).float())


def test_states_of_a_part_of_a_weight_that_can_not_be_cleared_are_spoken_of(caplog):
    _warn_of_state.cache_clear()
    dist.init_process_group("fake", store=FakeStore(), rank=0, world_size=4)
    try:
        mesh = dist.init_device_mesh("cpu", (4,))
        whole = DTensor.from_local(torch.zeros(8, 32), mesh, [Shard(0)], run_check=False)
        parameter = torch.nn.Parameter(whole)
        optimizer = Stored(parameter, exp_avg=torch.zeros(128, dtype=torch.uint8))  # in 4 bits
        with caplog.at_level(logging.WARNING, logger="chts_hf"):
            clear_states(optimizer, parameter, torch.ones(8, 32, dtype=torch.bool))
    finally:
        dist.destroy_process_group()
    (record,) = caplog.records
    assert "Stored keeps its 'exp_avg' in a form in which" in record.getMessage()


@pytest.mark.parametrize(
    "states",
    [
        {"exp_avg": torch.zeros(512, dtype=torch.uint8)},  # 4 bits, two in a byte
        {"state1": torch.zeros(32, 32, dtype=torch.uint8)},  # without what its codes mean
        {"exp_avg": torch.zeros(32, 32, dtype=torch.uint8)},
        {"flat": torch.zeros(1024)},
    ],
)
def test_states_that_can_not_be_cleared_are_spoken_of_once(states, caplog):
    _warn_of_state.cache_clear()
    parameter = torch.nn.Parameter(torch.zeros(32, 32))
    optimizer = Stored(parameter, **states)
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        for _ in range(2):
            clear_states(optimizer, parameter, torch.ones(32, 32, dtype=torch.bool))
    (record,) = caplog.records
    assert f"Stored keeps its '{next(iter(states))}' in a form in which" in record.getMessage()


def test_factored_states_are_no_reason_to_warn(caplog):
    model = tiny_marian()
    optimizer = Adafactor(model.parameters(), lr=1e-3, relative_step=False, scale_parameter=False)
    sparsifier = Sparsifier(model, optimizer, _config(), 20)
    with caplog.at_level(logging.WARNING, logger="chts_hf"):
        list(_steps(2, model, IDS, optimizer, sparsifier))
    assert sparsifier.updates == 1
    assert not caplog.records


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
