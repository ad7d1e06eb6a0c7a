#!/usr/bin/env python
"""Train a multilayer perceptron on images sparsely, and measure its accuracy.

::

    python recipes/image_classification.py configs/digits_mlp_chts_99.yaml
    python recipes/image_classification.py configs/digits_mlp_chts_99.yaml --chts.method rigl
    python recipes/image_classification.py --dataset_name cifar10 --hidden_sizes 3072 3072 3072 \
        --output_dir output/cifar10 --do_train --do_predict --optim sgd --optim_args momentum=0.9 \
        --learning_rate 0.025 --chts.sparsity 0.99 --chts.update_interval 1500

Arguments are the Trainer's and those of the model and the data, in YAML files and on the command
line, later ones winning; `--help` lists them. Sparse training is set by the YAML section `chts:`
and by `--chts.NAME VALUE`; a layer with `init: csti` gets the correlations of the training images.
In the output folder it leaves the model, `all_results.json` and `topology.png`, and with
`--record_topology true` what `chts-hf report` draws. A run that was interrupted goes on by the same
command.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor
from transformers import (
    AutoModelForImageClassification,
    EvalPrediction,
    PreTrainedModel,
    Trainer,
    set_seed,
)

from chts_hf import CHTsCallback, CHTsConfig, find_targets
from chts_hf.runs import report
from chts_hf.runs.recipe import (
    MaskSnapshot,
    describe_run,
    finish,
    keep,
    run_script,
    setup_logging,
)
from chts_hf.runs.resume import STOPPED, StopOnSignal, find_checkpoint
from chts_hf.runs.topology import record_topology
from chts_hf.vision import MLPConfig, MLPForImageClassification, images
from chts_hf.vision.arguments import Arguments, ModelArguments, read_arguments
from chts_hf.vision.images import Images
from chts_hf.vision.splits import load_splits

logger = logging.getLogger("image_classification")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run what the arguments say.

    Args:
        argv: YAML files and options; the process's own if not given.

    Returns:
        The content of ``all_results.json``.
    """
    arguments = read_arguments(sys.argv[1:] if argv is None else argv)
    training = arguments.training
    setup_logging(training, logger)
    set_seed(training.seed)
    checkpoint = find_checkpoint(training, sparse=not arguments.chts.is_dense)

    splits = load_splits(arguments.data)
    if training.do_eval and "validation" not in splits:
        raise ValueError(
            "do_eval and eval_strategy need images to validate with: say validation_samples, or "
            'do_eval false and eval_strategy "no"'
        )
    model = load_model(arguments.model, splits)
    sparse = CHTsCallback(arguments.chts, correlation=correlation(arguments.chts, splits))
    snapshot, stop = MaskSnapshot(sparse), StopOnSignal()
    trainer = Trainer(
        model=model,
        args=training,
        train_dataset=splits.get("train"),
        eval_dataset=splits.get("validation"),
        compute_metrics=accuracy,
        callbacks=[sparse, snapshot, stop],
    )
    record_topology(arguments.data, sparse, trainer)

    results = describe(arguments, splits)
    if training.do_train:
        outcome = trainer.train(resume_from_checkpoint=checkpoint)
        if stop.stopped:
            sys.exit(STOPPED)  # the same command goes on from the checkpoint
        trainer.save_model()
        trainer.save_state()
        keep(trainer, "train", outcome.metrics, results)
        results["steps"] = trainer.state.global_step
        if checkpoint is not None:
            results["resumed_from_step"] = snapshot.step
        assert sparse.sparsifier is not None
        # A dense run has no targets of its own; it is counted over those of a sparse one.
        targets = sparse.sparsifier.targets or find_targets(model, arguments.chts)
        results |= report.network_results(sparse.sparsifier.stats(), targets)
    results |= report.parameter_counts(model)

    if training.do_eval:
        keep(trainer, "eval", trainer.evaluate(splits["validation"]), results)
    if training.do_predict:
        output = trainer.predict(splits["test"], metric_key_prefix="predict")
        keep(trainer, "predict", output.metrics or {}, results)
    if trainer.is_world_process_zero():
        score = ("eval_accuracy", "Accuracy in %")
        finish(trainer, snapshot, results, score=score, loss_unit=results["loss_unit"])
    return results


def load_model(options: ModelArguments, splits: dict[str, Images]) -> PreTrainedModel:
    """Load an MLP, or make one that fits the training images."""
    if options.model_name_or_path is not None:
        loaded: PreTrainedModel = AutoModelForImageClassification.from_pretrained(
            options.model_name_or_path
        )
        return loaded
    if "train" not in splits:
        raise ValueError("without training images, say model_name_or_path")
    train = splits["train"]
    mean, std = images.channel_statistics(train)
    config = MLPConfig(
        image_size=train.pixels.shape[2:],
        num_channels=train.pixels.shape[1],
        hidden_sizes=options.hidden_sizes,
        hidden_act=options.activation,
        image_mean=mean,
        image_std=std,
        id2label=dict(enumerate(train.names)),
        label2id={name: index for index, name in enumerate(train.names)},
    )
    return MLPForImageClassification(config)


def correlation(chts: CHTsConfig, splits: dict[str, Images]) -> Tensor | None:
    """Correlate the training images' pixels, if a layer's first links depend on it."""
    kinds = [chts.init, *(changes.get("init") for changes in chts.overrides.values())]
    if chts.is_dense or "csti" not in kinds or "train" not in splits:
        return None
    return images.feature_correlation(splits["train"])


def accuracy(prediction: EvalPrediction) -> dict[str, float]:
    """Return the percentage of images that were classified right."""
    classes = np.argmax(prediction.predictions, axis=-1)
    return {"accuracy": 100 * float((classes == prediction.label_ids).mean())}


def describe(arguments: Arguments, splits: dict[str, Images]) -> dict[str, Any]:
    """Say what is run: enough to run it again and to compare it with others."""
    data, training = arguments.data, arguments.training
    local = Path(data.data_dir or ".").resolve().name
    return {
        **describe_run(arguments.setting, arguments.chts, training, Path(__file__)),
        "dataset": " ".join(filter(None, [data.dataset_name or local, data.dataset_config_name])),
        **{f"{name}_images": len(split) for name, split in splits.items()},
        "hidden_sizes": arguments.model.hidden_sizes,
        "batch_size": training.train_batch_size * training.world_size,
        "learning_rate": training.learning_rate,
        "weight_decay": training.weight_decay,
        "loss_unit": "nats per image",
    }


if __name__ == "__main__":
    run_script(main)
