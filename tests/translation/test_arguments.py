"""Arguments: YAML and command line, later ones winning, and errors that name what is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from chts_hf.translation.arguments import read_arguments

YAML = """
train_file: "train.{lang}.gz"
output_dir: out
learning_rate: 5e-4
lr_scheduler_kwargs: {num_cycles: 2}
do_train: true
use_cpu: true
report_to: [none]
max_steps: 7
max_tokens_per_batch: 512
chts:
  method: set
  sparsity: 0.8
  update_interval: 3
"""


@pytest.fixture
def config(tmp_path: Path) -> str:
    path = tmp_path / "toy_set_80.yaml"
    path.write_text(YAML, encoding="utf-8")
    return str(path)


def test_a_yaml_file(config: str) -> None:
    arguments = read_arguments([config])
    assert arguments.setting == "toy_set_80"
    assert arguments.data.train_file == "train.{lang}.gz"
    assert arguments.training.learning_rate == 5e-4  # a string to YAML 1.1
    assert arguments.training.lr_scheduler_kwargs == {"num_cycles": 2}
    assert arguments.training.report_to == []
    assert arguments.training.do_train is True
    assert arguments.training.max_steps == 7
    assert arguments.training.max_tokens_per_batch == 512
    assert (arguments.chts.method, arguments.chts.sparsity) == ("set", 0.8)
    assert arguments.model.architecture == "marian"


def test_a_run_that_would_do_nothing(config: str) -> None:
    with pytest.raises(ValueError, match="nothing to do: name a YAML file .* --do_train"):
        read_arguments([config, "--do_train=false"])


def test_later_ones_win(config: str, tmp_path: Path) -> None:
    second = tmp_path / "more.yml"
    second.write_text("max_steps: 9\nseed: 5\nchts: {update_interval: 4}\n")
    arguments = read_arguments(
        [config, str(second), "--seed", "6", "--do_train=false", "--do_eval",
         "--chts.sparsity", "0.95",
         "--chts.init", "brf", "--chts.init_options", "{r: 1e-1}", "--chts.zeta=1e-1",
         "--source-lang", "de",
         "--target_lang", "en"]
    )  # fmt: skip
    assert arguments.setting == "more"
    assert (arguments.training.max_steps, arguments.training.seed) == (9, 6)
    assert arguments.training.do_train is False
    assert arguments.chts.update_interval == 4
    assert arguments.chts.sparsity == 0.95
    assert arguments.chts.zeta == 0.1
    assert arguments.chts.init_options == {"r": 0.1}
    assert arguments.data.source_lang == "de"


def test_the_command_line_alone() -> None:
    arguments = read_arguments(
        ["--dataset_name", "bentrevett/multi30k", "--output_dir", "x", "--use_cpu", "--do_eval"]
    )
    assert arguments.setting == "command line"
    assert arguments.chts.method == "chts"
    assert arguments.data.val_max_target_length == arguments.data.max_target_length


def test_the_topology_has_the_seed_of_the_run_unless_it_is_given(config: str) -> None:
    assert read_arguments([config, "--seed", "4"]).chts.seed == 4
    assert read_arguments([config, "--seed", "4", "--chts.seed", "9"]).chts.seed == 9


def test_noam_and_inoam_decide_over_rewarming(config: str) -> None:
    warm = ["--warmup_steps", "5", "--chts.update_interval", "20"]
    inoam = read_arguments([config, *warm, "--lr_scheduler_type", "inoam"])
    assert inoam.chts.rewarm_steps > 0
    noam = read_arguments([config, *warm, "--lr_scheduler_type", "noam"])
    assert noam.chts.rewarm_steps == 0
    with pytest.raises(ValueError, match=r"noam is without re-warming.*rewarm_steps is 4.*inoam"):
        read_arguments([config, *warm, "--lr_scheduler_type", "noam", "--chts.rewarm_steps", "4"])
    with pytest.raises(ValueError, match="inoam is noam with re-warming.*rewarm_steps is 0"):
        read_arguments([config, *warm, "--lr_scheduler_type", "inoam", "--chts.rewarm_steps", "0"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--max_step", "3"], "unknown option --max_step; did you mean max_steps"),
        (["--sparsity", "0.5"], "unknown option --sparsity; did you mean --chts.sparsity"),
        (["--zzzqqq", "3"], "unknown option --zzzqqq; --help lists"),
        (["--chts.sparsty", "0.5"], "sparsty.*sparsity"),
        (["--chts.sparsity", "1.5"], "sparsity must be in.*1.5"),
        (["--chts.method", "chtz"], "method.*chtz"),
        (["--chts.sparsity"], "--chts.sparsity needs a value"),
        (["--chts.sparsity", "--seed", "1"], "--chts.sparsity needs a value"),
        (["--max_steps", "many"], "max_steps.*invalid int value: 'many'"),
        (["--num_beams", "0"], "num_beams is 0; it must be at least 1"),
        (["--max_train_samples", "-5"], "max_train_samples is -5"),
        (["--dataset_name", "wmt14"], "either dataset_name or local files.*not both"),
        (["stray"], "not used.*stray"),
    ],
)
def test_wrong_options(config: str, options: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_arguments([config, *options])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("max_step: 3", r"unknown key 'max_step' in .*bad\.yaml'; did you mean max_steps"),
        ("sparsity: 0.5", "unknown key 'sparsity'"),
        ("chtss: {sparsity: 0.5}", "unknown key 'chtss'.*did you mean chts"),
        ("train_file: a.json\nchts: {sparsty: 0.5}", "sparsty.*sparsity"),
        ("chts: 0.9", "chts must be a section"),
        ("seed:", "seed has no value; leave it out"),
        ("[1, 2]", "must hold names and values"),
        ("a: [", "is not valid YAML"),
        ("output_dir: x", "either dataset_name or local files"),
    ],
)
def test_wrong_files(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=message):
        read_arguments([str(path)])


def test_an_empty_name_takes_a_data_set_back(tmp_path: Path) -> None:
    path = tmp_path / "hub.yaml"
    path.write_text("dataset_name: wmt14\nuse_cpu: true\ndo_train: true")
    arguments = read_arguments([str(path), "--dataset_name", "", "--train_file", "a.json"])
    assert arguments.data.dataset_name is None


def test_a_missing_file() -> None:
    with pytest.raises(ValueError, match=r"configuration file 'nowhere\.yaml' does not exist"):
        read_arguments(["nowhere.yaml"])


@pytest.mark.parametrize(
    "path",
    [path for path in sorted(Path("configs").glob("*.yaml")) if "\nd_model:" in path.read_text()],
    ids=lambda path: path.stem,
)
def test_the_configurations_of_the_repository_are_read(path: Path) -> None:
    arguments = read_arguments([str(path), "--use_cpu"])
    assert arguments.training.do_train
    assert Path(str(arguments.training.output_dir)).name == path.stem
