"""A pushed model comes back from the Hub in a process that knows nothing of this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from chts_hf import CHTsCallback, CHTsConfig
from chts_hf.translation.inference import translate
from chts_hf.translation.tokenizers import TokenizerPair, train_tokenizer
from tests.builders import tiny_marian, tiny_trainer
from tests.hub.pages import page_code
from tests.hub.stand_in import HubStandIn

REPO = "me/model"
SENTENCES = ["the dog sees the house", "a cat sleeps"]
#: What the pulling process does after the lines that the page shows.
REST = f"""
import json, sys
import torch
from transformers import AutoModelForSeq2SeqLM

auto = AutoModelForSeq2SeqLM.from_pretrained("{REPO}")
torch.save([model.state_dict(), auto.state_dict()], sys.argv[1])
sentences = json.loads(sys.argv[2])
translations = [translate(m, tokenizers, sentences, max_length=12) for m in (model, auto)]
print(json.dumps([translations, tokenizers.target.get_vocab()]))
"""


@pytest.mark.distributed
def test_a_pushed_model_is_pulled_by_a_fresh_process(hub: HubStandIn, tmp_path: Path):
    pair = TokenizerPair(train_tokenizer(SENTENCES, 300), train_tokenizer(["ein hund"] * 9, 262))
    model = tiny_marian(vocab_size=len(pair.source))
    callback = CHTsCallback(CHTsConfig(sparsity=0.9, update_interval=1, t_end=1.0))
    trainer = tiny_trainer(
        tmp_path / "out", [callback], model, steps=2, hub_model_id=REPO, hub_token="hf_token"
    )
    trainer.train()
    pair.save(tmp_path / "out")  # what lies in the output folder is pushed too
    trainer.push_to_hub()

    online = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"}
    home = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
    pulled = tmp_path / "pulled.pt"
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            page_code("hub.md", "pull") + REST,
            str(pulled),
            json.dumps(SENTENCES),
        ],
        env=online | home | {"HF_HUB_DISABLE_XET": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    for state in torch.load(pulled):
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, state[name]), name
    here = translate(model, pair, SENTENCES, max_length=12)
    assert any(here), "an untrained model says nothing that could be compared"
    translations, vocabulary = json.loads(process.stdout.splitlines()[-1])
    assert translations == [here, here]
    assert vocabulary == pair.target.get_vocab() != pair.source.get_vocab()
