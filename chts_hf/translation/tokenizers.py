"""Tokenizers of a translation model: trained here or loaded, one for both sides or one a side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets import Dataset
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast
from transformers.utils import cached_file

from chts_hf.checkpoint.folder import TARGET_FOLDER
from chts_hf.translation.corpora import column

PAD, EOS, UNK, BOS = "<pad>", "</s>", "<unk>", "<s>"
#: Their ids are their places here. T5's own order; Marian and BART take any.
SPECIAL_TOKENS = (PAD, EOS, UNK, BOS)
#: Byte-level BPE starts from all 256 bytes, so that it can write any text.
SMALLEST_VOCABULARY = len(SPECIAL_TOKENS) + 256


@dataclass(frozen=True)
class TokenizerPair:
    """The tokenizers of the two sides; the same object twice where the vocabulary is joint.

    Attributes:
        source: encodes what is translated.
        target: encodes the references and decodes the translations.
    """

    source: PreTrainedTokenizerBase
    target: PreTrainedTokenizerBase

    @property
    def joint(self) -> bool:
        """Whether one tokenizer does both sides."""
        return self.source is self.target

    def save(self, folder: str | Path) -> None:
        """Write the tokenizers into a model's folder, where :meth:`load` finds both.

        The source tokenizer goes where ``AutoTokenizer`` looks, the target tokenizer (if it is
        another) into the subfolder ``target_tokenizer``.
        """
        self.source.save_pretrained(str(folder))
        if not self.joint:
            self.target.save_pretrained(str(Path(folder) / TARGET_FOLDER))

    @classmethod
    def load(cls, name_or_path: str | Path, **kwargs: Any) -> TokenizerPair:
        """Load the tokenizers of a model from its folder, or from the Hub by name.

        Args:
            name_or_path: the folder, or the name.
            **kwargs: handed to ``AutoTokenizer.from_pretrained``, such as ``revision``.
        """
        source = AutoTokenizer.from_pretrained(str(name_or_path), **kwargs)
        settings = cached_file(
            str(name_or_path),
            f"{TARGET_FOLDER}/tokenizer_config.json",
            _raise_exceptions_for_missing_entries=False,
            **kwargs,
        )
        if settings is None:  # there is none, which is not the same as a Hub that does not answer
            return cls(source, source)
        kwargs["subfolder"] = TARGET_FOLDER
        return cls(source, AutoTokenizer.from_pretrained(str(name_or_path), **kwargs))

    def encode(
        self,
        corpus: Dataset,
        source_lang: str,
        target_lang: str,
        *,
        source_prefix: str = "",
        max_source_length: int = 128,
        max_target_length: int = 128,
    ) -> Dataset:
        """Turn sentence pairs into ``input_ids``, ``attention_mask`` and ``labels``.

        Args:
            corpus: rows with a ``translation`` column.
            source_lang: the key of the source sentences.
            target_lang: the key of the target sentences.
            source_prefix: written before each source sentence, as T5 models want.
            max_source_length: sources are cut to so many tokens, the end token included.
            max_target_length: the same for targets.
        """

        def encode_batch(batch: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
            rows = batch["translation"]
            encoded = self.source(
                [source_prefix + row[source_lang] for row in rows],
                max_length=max_source_length,
                truncation=True,
            )
            targets = self.target(
                text_target=[row[target_lang] for row in rows],
                max_length=max_target_length,
                truncation=True,
            )
            return {
                "input_ids": encoded["input_ids"],
                "attention_mask": encoded["attention_mask"],
                "labels": targets["input_ids"],
            }

        return corpus.map(
            encode_batch, batched=True, remove_columns=corpus.column_names, desc="Tokenizing"
        )

    def decode(self, predictions: Any) -> list[str]:
        """Turn generated ids (rows, length; -100 where rows were padded) into sentences."""
        pad = self.target.pad_token_id
        rows = [[pad if token < 0 else int(token) for token in row] for row in predictions]
        return [text.strip() for text in self.target.batch_decode(rows, skip_special_tokens=True)]


def train_tokenizer(sentences: Sequence[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE tokenizer (Sennrich et al., ACL 2016).

    It works on NFC-normalised bytes, so no text is unknown to it and decoding gives the text
    back. Each encoded text ends in ``</s>``. The same sentences give the same tokenizer.

    Args:
        sentences: the training text.
        vocab_size: number of pieces, special tokens included, at least 260. Less come out where
            the text does not have so many.

    Returns:
        A tokenizer with pad, end, unknown and begin tokens: ids 0 to 3.

    Raises:
        ValueError: ``vocab_size`` is below 260, or there are no sentences.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least "
            f"{SMALLEST_VOCABULARY} (256 bytes and {len(SPECIAL_TOKENS)} special tokens)"
        )
    if not sentences:
        raise ValueError("there are no sentences to train a tokenizer on")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"$A {EOS}",
        pair=f"$A {EOS} $B {EOS}",
        special_tokens=[(EOS, SPECIAL_TOKENS.index(EOS))],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        bos_token=BOS,
        split_special_tokens=True,  # "</s>" in a text is text, not the end of it
        clean_up_tokenization_spaces=False,
    )


def train_tokenizers(
    corpus: Dataset, source_lang: str, target_lang: str, vocab_size: int, joint: bool = True
) -> TokenizerPair:
    """Train the tokenizers of a translation model on its training split.

    Args:
        corpus: rows with a ``translation`` column.
        source_lang: the key of the source sentences.
        target_lang: the key of the target sentences.
        vocab_size: pieces of the joint vocabulary, or of each of the two.
        joint: one vocabulary for both languages (which tied embeddings need), or one a side.
    """
    source, target = column(corpus, source_lang), column(corpus, target_lang)
    if joint:
        both = train_tokenizer(source + target, vocab_size)
        return TokenizerPair(both, both)
    return TokenizerPair(train_tokenizer(source, vocab_size), train_tokenizer(target, vocab_size))
