"""What the callback records while a model trains."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from chts_hf import CHTsCallback, CHTsConfig, Sparsifier
from chts_hf.analysis import TopologyLogger
from chts_hf.analysis.history import HistoryWriter, read_history
from chts_hf.analysis.links import LinkHistory
from chts_hf.analysis.measures import beside_null
from chts_hf.analysis.report import read_run
from chts_hf.analysis.report.turnover import turnover
from tests.builders import tiny_trainer

CONFIG = CHTsConfig(sparsity=0.7, update_interval=2, t_end=0.8, rewarm_steps=0)


class _Listener(TrainerCallback):
    """A logger such as TensorBoard's: sees what the Trainer logs."""

    def __init__(self) -> None:
        self.seen: list[dict] = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.seen.append(dict(logs))


def run(folder, attach=False, steps=12, resume=None, **changes):
    sparse, listener = CHTsCallback(changes.pop("config", CONFIG)), _Listener()
    logger = TopologyLogger(sparse, frames=3, **changes.pop("logger", {}))
    callbacks = [listener, sparse] if attach else [logger, listener, sparse]
    trainer = tiny_trainer(folder, callbacks, steps=steps, **changes)
    if attach:
        logger.attach(trainer)
    trainer.train(resume_from_checkpoint=resume)
    return trainer, sparse, listener


def test_every_update_is_recorded_and_masks_at_chosen_ones(tmp_path):
    _, sparse, _ = run(tmp_path)
    history = read_history(tmp_path)
    assert history is not None
    assert [r["update"] for r in history.records] == [0, 1, 2, 3, 4]
    assert [r["step"] for r in history.records] == [0, 2, 4, 6, 8]
    assert history.frames == [0, 4, 8]
    assert history.config["method"] == "chts"
    last = history.masks(8)
    assert last.keys() == {t.name for t in sparse.sparsifier.targets}
    for target in sparse.sparsifier.targets:
        mask = target.view(sparse.sparsifier.masks[target.parameter_name]).numpy()
        assert np.array_equal(last[target.name], mask)
    for record in history.records[1:]:
        for counts in record["layers"].values():
            assert counts["removed"] >= counts["overlap"] >= 0
            assert counts["regrown"] == counts["removed"]  # a constant number of links
    assert set(history.chains) >= {"model.encoder.layers.0: fc1 → fc2"}
    chain = history.chain("model.encoder.layers.0: fc1 → fc2", last)
    assert chain.sizes == (16, 32, 16)
    with pytest.raises(ValueError, match="no masks were kept at step 5"):
        history.masks(5)


def test_regrowth_at_random_is_counted_right_while_the_density_falls(tmp_path):
    falling = CHTsConfig(method="chtss", sparsity=0.9, update_interval=2, rewarm_steps=0)
    run(tmp_path, config=falling)
    history = read_history(tmp_path)
    first = history.masks(0)
    for name, counts in history.records[1]["layers"].items():
        assert counts["removed"] > counts["regrown"] > 0
        kept = first[name].sum() - counts["removed"]
        assert counts["links"] == kept + counts["regrown"]
        hit = counts["regrown"] / (first[name].size - kept)
        assert counts["expected_overlap"] == pytest.approx(hit * counts["removed"])
    # Records of older versions are put right: theirs took more places for absent.
    file = tmp_path / "topology" / "history.jsonl"
    wrong = [json.loads(line) for line in file.read_text().splitlines()]
    for counts in (c for record in wrong for c in record["layers"].values()):
        counts["expected_overlap"] *= 0.7
    file.write_text("".join(f"{json.dumps(record)}\n" for record in wrong))
    assert read_history(tmp_path).records == history.records


def test_counts_are_those_of_the_masks(tmp_path):
    run(tmp_path)
    history = read_history(tmp_path)
    first = history.masks(0)
    for step in history.frames:
        record = next(r for r in history.records if r["step"] == step)
        for name, mask in history.masks(step).items():
            counts = record["layers"][name]
            assert counts["links"] == mask.sum()
            assert counts["from_start"] == (mask & first[name]).sum()
            assert counts["active_out"] == mask.any(axis=1).sum()


def test_the_links_that_ever_were_are_counted_also_after_a_resume(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 6}
    _, sparse, _ = run(tmp_path, **saved)
    history = read_history(tmp_path)
    ever = sparse.sparsifier.state_dict()["ever"]
    for target in sparse.sparsifier.targets:
        mine = history.links()[target.name]
        assert mine.ever == int(ever[target.parameter_name].sum())
        assert mine.weights == ever[target.parameter_name].numel()
        assert mine.itop_rate == mine.ever / mine.weights
        assert mine.overlap == mine.returned / mine.removed
    total = [
        sum(getattr(one, key) for one in history.links().values()) for key in ("ever", "weights")
    ]
    assert history.records[-1]["itop_rate"] == pytest.approx(total[0] / total[1])
    assert total[0] > sum(one.links for one in history.links().values())
    run(tmp_path, resume=str(tmp_path / "checkpoint-6"), **saved)
    assert read_history(tmp_path).links() == history.links()


def test_layers_that_share_a_parameter_are_counted_each_for_itself(tmp_path):
    """The q, k and v of GPT-2 are parts of one matrix, stored transposed."""
    model = GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=12, n_head=2, vocab_size=20))
    sparse = CHTsCallback(CONFIG)
    sparse.sparsifier = Sparsifier(model, None, CONFIG, total_steps=10)
    args = TrainingArguments(output_dir=str(tmp_path), report_to="none")
    TopologyLogger(sparse).on_step_begin(args, TrainerState(), TrainerControl())
    layers = read_history(tmp_path).records[0]["layers"]
    assert sum("attn" in name for name in layers) == 4
    for counts in layers.values():
        assert counts["ever"] == counts["links"] > 0  # nothing has changed yet


def test_histories_of_older_runs_say_what_they_do_not_know():
    counts = {"links": 5, "removed": 0, "overlap": 0, "expected_overlap": 0.0}
    old = LinkHistory.of_record([4, 5], counts)
    assert (old.weights, old.links) == (20, 5)
    assert (old.itop_rate, old.overlap, old.overlap_at_random) == (None, None, None)


def test_the_trainers_loggers_see_every_update(tmp_path):
    trainer, _, listener = run(tmp_path, attach=True, logging_steps=4)
    of_updates = [e for e in listener.seen if "topology/itop_rate" in e and "loss" not in e]
    assert len([e for e in of_updates if "train_runtime" not in e]) == 4
    # The Trainer's own entries are all there still.
    assert [e["step"] for e in trainer.state.log_history if "loss" in e] == [4, 8, 12]


def test_unattached_it_stands_in_the_trainers_entries(tmp_path):
    trainer, _, _ = run(tmp_path)
    losses = [e for e in trainer.state.log_history if "loss" in e]
    assert all(0 <= e["topology/from_start"] <= 1 for e in losses)


def test_training_is_the_same_with_and_without_it(tmp_path):
    with_it, _, _ = run(tmp_path / "a", attach=True)
    without = tiny_trainer(tmp_path / "b", [CHTsCallback(CONFIG)])
    without.train()
    for a, b in zip(with_it.model.parameters(), without.model.parameters(), strict=True):
        assert a.equal(b)


def test_a_resumed_run_goes_on_where_its_checkpoint_was(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 6}
    run(tmp_path, **saved)
    whole = (tmp_path / "topology" / "history.jsonl").read_text()
    run(tmp_path, resume=str(tmp_path / "checkpoint-6"), **saved)
    # Every count, also those since the start: links that ever were, links of the first masks.
    assert (tmp_path / "topology" / "history.jsonl").read_text() == whole
    assert '"from_start": null' not in whole
    assert read_history(tmp_path).frames == [0, 4, 8]


def test_a_run_that_was_killed_in_the_midst_of_a_line_is_resumed(tmp_path):
    saved = {"save_strategy": "steps", "save_steps": 6}
    run(tmp_path, **saved)
    history = tmp_path / "topology" / "history.jsonl"
    whole = history.read_text()
    history.write_text(whole[:-40])
    (history.parent / "masks-00000009.safetensors.part").write_text("half")
    assert [r["step"] for r in read_history(tmp_path).records] == [0, 2, 4, 6]
    run(tmp_path, resume=str(tmp_path / "checkpoint-6"), **saved)
    assert history.read_text() == whole
    assert not list(history.parent.glob("*.part"))


def _history(folder) -> HistoryWriter:
    """Two updates of a layer, with masks of the last."""
    writer = HistoryWriter(folder, 0)
    writer.describe({"a": {"kind": "x", "shape": [4, 6]}}, {}, {})
    for step in (0, 5):
        writer.record({"step": step, "update": step // 5, "layers": {}})
    writer.frame(5, {"a": torch.ones(4, 6, dtype=torch.bool)})
    return writer


def test_damaged_files_are_named(tmp_path):
    folder = _history(tmp_path).folder
    frame, lines, layers = (
        folder / name for name in ("masks-00000005.safetensors", "history.jsonl", "layers.json")
    )
    history = read_history(tmp_path)
    frame.write_bytes(frame.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"{frame} is damaged \(.*\); delete it"):
        history.masks(5)
    lines.write_text("half a line\n" + lines.read_text())
    for read in (lambda: read_history(tmp_path), lambda: HistoryWriter(tmp_path, 5)):
        with pytest.raises(ValueError, match=f"{lines} is damaged: line 1 is no JSON. Delete"):
            read()
    layers.write_text(layers.read_text()[:10])
    with pytest.raises(ValueError, match=f"{layers} is no JSON.* Resume the run"):
        read_history(tmp_path)


def test_files_are_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    """Where the disk is full in the midst of writing, what was there before is there still."""
    writer = _history(tmp_path)
    before = {path.name: path.read_bytes() for path in writer.folder.iterdir()}

    def full(self, text, **options):
        with self.open("w") as file:
            file.write(text[: len(text) // 2])
        raise OSError("no space left")

    def full_too(tensors, path):
        full(path, "half of it")

    monkeypatch.setattr(Path, "write_text", full)
    monkeypatch.setattr("chts_hf.analysis.history.save_file", full_too)
    for write in (
        lambda: HistoryWriter(tmp_path, 5),
        lambda: writer.describe({}, {}, {}),
        lambda: writer.frame(5, {"a": torch.zeros(4, 6, dtype=torch.bool)}),
        lambda: writer.frame(10, {"a": torch.zeros(4, 6, dtype=torch.bool)}),
    ):
        with pytest.raises(OSError, match="no space left"):
            write()
    assert {name: (writer.folder / name).read_bytes() for name in before} == before
    assert read_history(tmp_path).frames == [5]


def test_a_run_resumed_elsewhere_does_not_know_its_first_masks(tmp_path):
    run(tmp_path / "a", save_strategy="steps", save_steps=6)
    shutil.copytree(tmp_path / "a" / "checkpoint-6", tmp_path / "b" / "checkpoint-6")
    trainer, _, _ = run(tmp_path / "b", resume=True)
    (record,) = read_history(tmp_path / "b").records
    assert all(counts["from_start"] is None for counts in record["layers"].values())
    assert "from_start" not in record
    assert "from_start" not in trainer.state.log_history[-1]
    last = read_history(tmp_path / "a").records[-1]
    assert record["itop_rate"] == last["itop_rate"]
    assert "at the end; the first masks were not kept." in turnover(read_run(tmp_path / "b")).sees


def test_a_layer_that_rests_has_nothing_removed(tmp_path):
    resting = CHTsConfig(
        sparsity=0.7, update_interval=2, t_end=0.8, rewarm_steps=0, early_stop_overlap=0.01
    )
    run(tmp_path, config=resting)
    records = read_history(tmp_path).records
    assert sum(c["removed"] for c in records[1]["layers"].values()) > 0
    assert sum(c["removed"] for c in records[-1]["layers"].values()) == 0


def test_measures_are_taken_with_the_masks(tmp_path):
    pytest.importorskip("scipy", reason="needs the extra `analysis`")
    run(tmp_path, logger={"measures": ("clustering",), "nulls": 1})
    history = read_history(tmp_path)
    taken = [r for r in history.records if "measures" in r]
    assert [r["step"] for r in taken] == [0, 4, 8]
    for record in taken:
        masks = history.masks(record["step"])
        assert record["measures"].keys() == history.chains.keys()
        for name, values in record["measures"].items():
            assert values == beside_null(history.chain(name, masks), ["clustering"], 1)


MEASURED = {"measures": ("modularity", "anp"), "nulls": 1}


def test_the_trainers_loggers_see_measures_beside_their_null_values(tmp_path):
    pytest.importorskip("scipy", reason="needs the extra `analysis`")
    chosen = MEASURED | {"measure_steps": (0, 3, 100)}
    trainer, _, listener = run(tmp_path, attach=True, logging_steps=1, logger=chosen)
    # The first masks; the first update from step 3 on; none follows step 100: the last one.
    records = {r["step"]: r for r in read_history(tmp_path).records if "measures" in r}
    assert list(records) == [0, 4, 8]
    # The chains' ANP has a name of its own: that of all layers is logged as topology/anp.
    names = {name: name for name in ("modularity", "modularity_rewired")}
    names |= {"anp": "chain_anp", "anp_er": "chain_anp_er"}
    for entries in (listener.seen, trainer.state.log_history):
        seen = [entry for entry in entries if "topology/modularity" in entry]
        assert len(seen) == 3  # each once, and not again in later entries
        for entry, record in zip(seen, records.values(), strict=True):
            assert "loss" not in entry
            assert entry["topology/anp"] == record["anp"]
            for name, logged in names.items():
                of_chains = [values[name] for values in record["measures"].values()]
                assert entry[f"topology/{logged}"] == pytest.approx(np.mean(of_chains))
    assert [e["step"] for e in trainer.state.log_history if "topology/chain_anp" in e] == [0, 4, 8]


def test_unattached_measures_stand_in_the_next_entry_only(tmp_path):
    pytest.importorskip("scipy", reason="needs the extra `analysis`")
    chosen = MEASURED | {"measure_steps": (5,)}
    trainer, _, _ = run(tmp_path, logging_steps=4, logger=chosen)
    log = trainer.state.log_history
    assert [e["step"] for e in log if "topology/modularity_rewired" in e] == [8]
    assert [r["step"] for r in read_history(tmp_path).records if "measures" in r] == [6]


def test_training_is_the_same_with_measures(tmp_path):
    pytest.importorskip("scipy", reason="needs the extra `analysis`")
    with_them, _, _ = run(tmp_path / "a", attach=True, logger=MEASURED)
    without, _, _ = run(tmp_path / "b")
    for a, b in zip(with_them.model.parameters(), without.model.parameters(), strict=True):
        assert a.equal(b)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"measures": ("x",)}, "no measure x"),
        ({"frames": 1}, "frames = 1 at least 2"),
        ({"every": 0}, "every = 0 and nulls = 3 must be at least 1"),
        ({"nulls": 0}, "nulls = 0 must be at least 1"),
        (
            {"measures": ("anp",), "measure_steps": (-1,)},
            r"measure_steps = \[-1\] must be at least",
        ),
        ({"measure_steps": (5,)}, r"measure_steps = \[5\] without measures"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TopologyLogger(CHTsCallback(CONFIG), **options)


def test_a_dense_run_records_nothing(tmp_path):
    sparse = CHTsCallback(CHTsConfig(method="dense"))
    tiny_trainer(tmp_path, [sparse, TopologyLogger(sparse)], steps=2).train()
    assert read_history(tmp_path) is None
