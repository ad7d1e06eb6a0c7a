"""What a translation recipe needs around a Trainer: data, tokenizers, models, losses, scores."""

from chts_hf.translation.batching import TokenBatchSampler
from chts_hf.translation.loss import TokenLoss
from chts_hf.translation.metric import SacreBleu
from chts_hf.translation.models import ModelSize, build_config, build_model
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizer, train_tokenizers
from chts_hf.translation.trainer import TranslationTrainer, TranslationTrainingArguments

__all__ = [
    "ModelSize",
    "SacreBleu",
    "TokenBatchSampler",
    "TokenLoss",
    "TokenizerPair",
    "TranslationTrainer",
    "TranslationTrainingArguments",
    "build_config",
    "build_model",
    "train_tokenizer",
    "train_tokenizers",
]
