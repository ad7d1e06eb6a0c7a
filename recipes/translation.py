#!/usr/bin/env python
"""Train a translation model sparsely, from scratch or from a pretrained model, and score it.

::

    python recipes/translation.py configs/demo.yaml
    python recipes/translation.py configs/demo.yaml --chts.sparsity 0.95 --seed 1
    python recipes/translation.py --model_name_or_path Helsinki-NLP/opus-mt-en-de \
        --dataset_name bentrevett/multi30k --output_dir output/finetuned --do_train --do_predict \
        --predict_with_generate --chts.method chts

Arguments are those of transformers' translation example, in YAML files and on the command line,
later ones winning; `--help` lists them. Sparse training is set by the YAML section `chts:` and by
`--chts.NAME VALUE`. In the output folder it leaves the model with its tokenizers,
`all_results.json`, `generated_predictions.txt` and `topology.png`.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset, DatasetDict
from transformers import (
    AutoModelForSeq2SeqLM,
    DataCollatorForSeq2Seq,
    EvalPrediction,
    PreTrainedModel,
    set_seed,
)

from chts_hf import CHTsCallback, find_targets
from chts_hf.compare.significance import encode_statistics, sentence_statistics
from chts_hf.inference import generation_speed
from chts_hf.runs import report
from chts_hf.runs.recipe import (
    MaskSnapshot,
    describe_run,
    finish,
    keep,
    output_folder,
    run_script,
    setup_logging,
    write_results,
)
from chts_hf.runs.resume import STOPPED, StopOnSignal, find_checkpoint
from chts_hf.runs.topology import record_topology
from chts_hf.translation import (
    ModelSize,
    SacreBleu,
    TokenizerPair,
    TranslationTrainer,
    build_model,
    corpora,
    train_tokenizers,
)
from chts_hf.translation.arguments import EMBEDDED, Arguments, DataTrainingArguments, read_arguments
from chts_hf.translation.batch_log import BatchLog, batches_digest

logger = logging.getLogger("translation")


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Run what the arguments say.

    Args:
        argv: YAML files and options; the process's own if not given.

    Returns:
        The content of ``all_results.json``.
    """
    arguments = read_arguments(sys.argv[1:] if argv is None else argv)
    data, training = arguments.data, arguments.training
    setup_logging(training, logger)
    set_seed(training.seed)
    checkpoint = find_checkpoint(training, sparse=not arguments.chts.is_dense)

    corpus = load_corpus(data)
    tokenizers, model = load_model(arguments, corpus)
    splits = choose_splits(arguments, corpus)
    encoded = {name: encode(split, name, tokenizers, data) for name, split in splits.items()}

    # Translations in evaluations during training: greedy unless asked otherwise. One token more
    # than the longest target, for the start token; transformers would stop at 20.
    training.generation_num_beams = training.generation_num_beams or 1
    training.generation_max_length = training.generation_max_length or longest_output(data)
    metric = SacreBleu()
    sparse = CHTsCallback(arguments.chts)
    snapshot, stop = MaskSnapshot(sparse), StopOnSignal()
    batches = BatchLog(output_folder(training) / "batches.txt")
    if checkpoint is None:
        batches.clear()
    trainer = TranslationTrainer(
        model=model,
        args=training,
        tokenizers=tokenizers,
        data_collator=DataCollatorForSeq2Seq(
            tokenizers.source, model=model, pad_to_multiple_of=data.pad_to_multiple_of
        ),
        train_dataset=encoded.get("train"),
        eval_dataset=encoded.get("validation"),
        compute_metrics=scorer(metric, tokenizers, splits.get("validation"), data.target_lang)
        if training.predict_with_generate
        else None,
        callbacks=[sparse, snapshot, stop],
        batch_log=batches,
    )
    record_topology(data, sparse, trainer)

    results = describe(arguments) | {
        "corpus": {
            name: corpora.sentences_digest(corpus[name], data.source_lang, data.target_lang)
            for name in splits
        },
        "initial_weights": report.weights_digest(model),
    }
    if training.do_train:
        outcome = trainer.train(resume_from_checkpoint=checkpoint)
        if stop.stopped:
            sys.exit(STOPPED)  # the same command goes on from the checkpoint
        trainer.save_model()
        trainer.save_state()
        keep(trainer, "train", outcome.metrics, results)
        results["steps"] = trainer.state.global_step
        results["batches"] = batches_digest(batches.path, trainer.state.global_step)
        if checkpoint is not None:
            results["resumed_from_step"] = snapshot.step
        assert sparse.sparsifier is not None
        # A dense run has no targets of its own; it is counted over those of a sparse one.
        targets = sparse.sparsifier.targets or find_targets(model, arguments.chts)
        results |= report.network_results(sparse.sparsifier.stats(), targets)
    results |= report.parameter_counts(model)

    search: dict[str, Any] = {"max_length": longest_output(data), "num_beams": data.num_beams}
    if training.do_eval:
        keep(trainer, "eval", trainer.evaluate(**search), results)
    if training.do_predict:
        translate_test(trainer, splits["test"], encoded["test"], data, metric, search, results)

    if trainer.is_world_process_zero():
        finish(trainer, snapshot, results)
        if data.measure_speed:
            results["speed"] = [measure_speed(trainer, encoded["test"], arguments, search)]
            write_results(output_folder(training), results)
            print("{name}: {value}".format(**results["speed"][0]))
    if training.push_to_hub:
        card: dict[str, Any] = {"finetuned_from": arguments.model.model_name_or_path}
        trainer.push_to_hub(tasks="translation", **card)
    return results


def load_corpus(data: DataTrainingArguments) -> DatasetDict:
    """Get the sentence pairs from where the arguments say they are."""
    languages = (data.source_lang, data.target_lang)
    if data.dataset_name == EMBEDDED:
        return corpora.load_embedded(*languages, **embedded_options(data))
    if data.dataset_name is not None:
        return corpora.load_hub(data.dataset_name, data.dataset_config_name, *languages)
    files = {"train": data.train_file, "validation": data.validation_file, "test": data.test_file}
    return corpora.load_files(files, *languages, data.data_dir)


def embedded_options(data: DataTrainingArguments) -> dict[str, Any]:
    """Say how the embedded corpus is generated."""
    names = ("seed", "train", "validation", "test", "disjoint_skeletons")
    return {name: getattr(data, f"embedded_{name}") for name in names}


def load_model(arguments: Arguments, corpus: DatasetDict) -> tuple[TokenizerPair, PreTrainedModel]:
    """Load a pretrained model with its tokenizers, or train tokenizers and initialise a model."""
    options, data = arguments.model, arguments.data
    if options.model_name_or_path is not None:
        where = {"revision": options.model_revision}
        tokenizers = TokenizerPair.load(options.model_name_or_path, **where)
        model = AutoModelForSeq2SeqLM.from_pretrained(options.model_name_or_path, **where)
    else:
        train = corpora.require_split(corpus, "train", "training a tokenizer")
        tokenizers = train_tokenizers(
            train, data.source_lang, data.target_lang, options.vocab_size, options.joint_vocabulary
        )
        size = ModelSize(**{name: getattr(options, name) for name in ModelSize.__annotations__})
        model = build_model(
            options.architecture,
            size,
            tokenizers,
            seed=arguments.training.seed,
            max_length=longest_output(data),
        )
    limit = getattr(model.config, "max_position_embeddings", None)
    needed = max(data.max_source_length, data.max_target_length, longest_output(data))
    if limit is not None and needed > limit:
        raise ValueError(
            f"the model has {limit} positions, and max_source_length {data.max_source_length} and "
            f"val_max_target_length {data.val_max_target_length} need {needed}"
        )
    return tokenizers, model


def choose_splits(arguments: Arguments, corpus: DatasetDict) -> dict[str, Dataset]:
    """Pick the splits that the run needs, cut to the number of samples asked for."""
    data, training = arguments.data, arguments.training
    evaluates = training.do_eval or training.eval_strategy != "no"
    wanted = {
        "train": (training.do_train, "do_train", data.max_train_samples),
        "validation": (evaluates, "do_eval (or eval_strategy)", data.max_eval_samples),
        "test": (training.do_predict, "do_predict", data.max_predict_samples),
    }
    splits = {}
    for name, (needed, reason, limit) in wanted.items():
        if needed:
            split = corpora.require_split(corpus, name, reason)
            splits[name] = split if limit is None else split.select(range(min(limit, len(split))))
    return splits


def encode(
    split: Dataset, name: str, tokenizers: TokenizerPair, data: DataTrainingArguments
) -> Dataset:
    """Tokenize a split; targets of evaluation have a length limit of their own."""
    longest = data.max_target_length if name == "train" else data.val_max_target_length
    assert longest is not None
    return tokenizers.encode(
        split,
        data.source_lang,
        data.target_lang,
        source_prefix=data.source_prefix,
        max_source_length=data.max_source_length,
        max_target_length=longest,
    )


def longest_output(data: DataTrainingArguments) -> int:
    """Return the generation's ``max_length``, which counts the start token too."""
    assert data.val_max_target_length is not None
    return data.val_max_target_length + 1


def scorer(
    metric: SacreBleu, tokenizers: TokenizerPair, split: Dataset | None, target_lang: str
) -> Callable[[EvalPrediction], dict[str, float]]:
    """Make the Trainer's ``compute_metrics``: BLEU and chrF against the references as they are."""
    references = [] if split is None else corpora.column(split, target_lang)

    def score(prediction: EvalPrediction) -> dict[str, float]:
        translations = tokenizers.decode(prediction.predictions)
        scores = metric.compute(predictions=translations, references=references)
        return {"bleu": scores["bleu"], "chrf": scores["chrf"]}

    return score


def translate_test(
    trainer: TranslationTrainer,
    split: Dataset,
    encoded: Dataset,
    data: DataTrainingArguments,
    metric: SacreBleu,
    search: dict[str, Any],
    results: dict[str, Any],
) -> None:
    """Translate the test set by beam search, score it and write the translations."""
    trainer.compute_metrics = None  # it holds the validation set's references
    output = trainer.predict(encoded, metric_key_prefix="predict", **search)
    metrics = dict(output.metrics or {})
    if trainer.args.predict_with_generate and trainer.is_world_process_zero():
        assert trainer.tokenizers is not None
        translations = [
            " ".join(text.split("\n")) for text in trainer.tokenizers.decode(output.predictions)
        ]
        references = corpora.column(split, data.target_lang)
        scores = metric.compute(predictions=translations, references=references)
        metrics |= {"predict_bleu": scores["bleu"], "predict_chrf": scores["chrf"]}
        for name in ("bleu_signature", "chrf_signature"):
            results[name] = scores[name]
        results["bleu_statistics"] = encode_statistics(
            sentence_statistics(translations, references)
        )
        results["num_beams"] = search["num_beams"]
        path = output_folder(trainer.args) / "generated_predictions.txt"
        path.write_text("\n".join(translations) + "\n", encoding="utf-8")
    keep(trainer, "predict", metrics, results)


def measure_speed(
    trainer: TranslationTrainer, encoded: Dataset, arguments: Arguments, search: dict[str, Any]
) -> dict[str, str]:
    """Time translations of the first test sentences, by sparse products and by dense ones."""
    collated = trainer.data_collator([encoded[i] for i in range(min(8, len(encoded)))])
    inputs = {name: collated[name] for name in ("input_ids", "attention_mask")}
    # The model as it was saved: that in the Trainer may be wrapped for mixed precision.
    model = AutoModelForSeq2SeqLM.from_pretrained(output_folder(arguments.training))
    return generation_speed(model, inputs, config=arguments.chts, **search).card_row()


def describe(arguments: Arguments) -> dict[str, Any]:
    """Say what is run: enough to run it again and to compare it with others."""
    data, chts = arguments.data, arguments.chts
    local = data.train_file or data.validation_file or data.test_file
    name = data.dataset_name or f"{Path(data.data_dir or '.').resolve().name}/{local}"
    embedded = {"embedded_corpus": embedded_options(data)} if name == EMBEDDED else {}
    return {
        **describe_run(arguments.setting, chts, arguments.training, Path(__file__)),
        "dataset": " ".join(filter(None, [name, data.dataset_config_name])),
        "languages": f"{data.source_lang}-{data.target_lang}",
        **embedded,
    }


if __name__ == "__main__":
    run_script(main)
