"""Tiny models and Trainers that tests build on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from transformers import (
    MarianConfig,
    MarianMTModel,
    Seq2SeqTrainer,
    Seq2SeqTrainingArguments,
    TrainerCallback,
)

VOCABULARY = 48


def tiny_marian(seed: int = 0, **changes: Any) -> MarianMTModel:
    """A 1+1 layer encoder-decoder, d 16, 4 heads, FFN 32."""
    settings: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 16,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 32,
        "decoder_ffn_dim": 32,
        "max_position_embeddings": 32,
        "dropout": 0.0,
        "pad_token_id": 0,
        "eos_token_id": 1,
        "bos_token_id": 2,
        "decoder_start_token_id": 0,
        "forced_eos_token_id": None,
    }
    torch.manual_seed(seed)
    return MarianMTModel(MarianConfig(**settings | changes))


class CopyTask(Dataset):
    """Sequences of unequal lengths to be copied; example i is always the same."""

    def __init__(self, size: int = 64) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        generator = torch.Generator().manual_seed(index)
        length = int(torch.randint(3, 10, (1,), generator=generator))
        ids = torch.randint(3, VOCABULARY, (length,), generator=generator).tolist() + [1]
        return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": ids}


def tiny_trainer(
    folder: Path,
    callbacks: list[TrainerCallback],
    model: Any = None,
    steps: int = 12,
    **changes: Any,
) -> Seq2SeqTrainer:
    """A Trainer on the copy task with deterministic data order."""
    compute_loss_func = changes.pop("compute_loss_func", None)
    optimizers = changes.pop("optimizers", (None, None))
    settings: dict[str, Any] = {
        "output_dir": str(folder),
        "max_steps": steps,
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 8,
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "logging_steps": 4,
        "save_strategy": "no",
        "report_to": "none",
        "use_cpu": True,
        "disable_tqdm": True,
        "seed": 3,
    }
    args = Seq2SeqTrainingArguments(**settings | changes)
    model = model if model is not None else tiny_marian()
    return Seq2SeqTrainer(
        model=model,
        args=args,
        train_dataset=CopyTask(),
        eval_dataset=CopyTask(16),
        data_collator=_collate(model),
        callbacks=callbacks,
        compute_loss_func=compute_loss_func,
        optimizers=optimizers,
    )


def _collate(model: Any) -> Any:
    def collate(examples: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        longest = max(len(example["input_ids"]) for example in examples)
        batch = {
            name: torch.tensor([e[name] + [fill] * (longest - len(e[name])) for e in examples])
            for name, fill in (("input_ids", 0), ("attention_mask", 0), ("labels", -100))
        }
        batch["decoder_input_ids"] = model.prepare_decoder_input_ids_from_labels(batch["labels"])
        return batch

    return collate
