"""The MLP: a model like any other, with a chain of layers to sparsify."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import AutoConfig, AutoModelForImageClassification

from chts_hf import CHTsConfig, Sparsifier, find_targets
from chts_hf.inference import compact
from chts_hf.targets import find_pairs
from chts_hf.update import LayerInput, _percolate
from chts_hf.vision import MLPConfig, MLPForImageClassification


def mlp(*hidden: int, **changes: object) -> MLPForImageClassification:
    torch.manual_seed(0)
    settings = {"image_size": (4, 3), "num_channels": 2, "num_labels": 5} | changes
    channels = settings["num_channels"]
    settings = {"image_mean": [0.5] * channels, "image_std": [0.25] * channels} | settings
    return MLPForImageClassification(MLPConfig(hidden_sizes=hidden or (16, 12, 8), **settings))


def test_it_computes_what_it_says() -> None:
    model = mlp()
    pixels, labels = torch.rand(7, 2, 4, 3), torch.arange(7) % 5
    values = ((pixels - 0.5) / 0.25).reshape(7, 24)
    for layer in model.hidden:
        values = torch.relu(values @ layer.weight.T + layer.bias)
    logits = values @ model.classifier.weight.T + model.classifier.bias
    output = model(pixels, labels=labels)
    torch.testing.assert_close(output.logits, logits)
    torch.testing.assert_close(output.loss, nn.functional.cross_entropy(logits, labels))
    assert model(pixels).loss is None
    assert torch.equal(model(pixels, return_dict=False)[0], output.logits)


def test_images_of_another_size_are_refused() -> None:
    model = MLPForImageClassification(MLPConfig(image_size=(2, 3), hidden_sizes=[4], num_labels=2))
    model(torch.rand(5, 1, 2, 3))
    for shape in ((5, 1, 3, 2), (5, 3, 2, 3), (5, 6)):
        with pytest.raises(ValueError, match=re.escape(f"pixel_values are {shape}")):
            model(torch.rand(shape))


def test_channels_are_normalized_each_by_its_own() -> None:
    model = mlp(image_mean=[0.0, 0.5], image_std=[1.0, 0.1])
    other = mlp(image_mean=[0.0, 0.0], image_std=[1.0, 1.0])
    pixels = torch.rand(3, 2, 4, 3)
    scaled = pixels.clone()
    scaled[:, 1] = (scaled[:, 1] - 0.5) / 0.1
    torch.testing.assert_close(model(pixels).logits, other(scaled).logits)


def test_weights_start_from_hes_distribution() -> None:
    model = mlp(400, 300, image_size=(20, 20))
    for layer in model.hidden:
        assert float(layer.weight.detach().std()) == pytest.approx(
            (2 / layer.in_features) ** 0.5, rel=0.02
        )
        assert not layer.bias.any()


def test_it_is_saved_and_loaded_like_any_other(tmp_path: Path) -> None:
    model = mlp(id2label={i: f"class {i}" for i in range(5)})
    model.save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert isinstance(config, MLPConfig)
    assert config.hidden_sizes == [16, 12, 8]
    assert config.id2label[4] == "class 4"
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert isinstance(again, MLPForImageClassification)
    pixels = torch.rand(2, 2, 4, 3)
    assert torch.equal(again(pixels).logits, model(pixels).logits)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_sizes": []}, "hidden_sizes"),
        ({"hidden_sizes": [3, 0]}, r"hidden_sizes=\[3, 0\]"),
        ({"hidden_act": "rely"}, "hidden_act='rely' is none of"),
        ({"num_channels": 3}, "image_mean has 1 values; the images have 3"),
    ],
)
def test_wrong_sizes(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MLPConfig(**changes)


def test_hidden_layers_are_a_chain_and_the_classifier_stays_dense() -> None:
    model = mlp()
    targets = find_targets(model)
    assert [t.name for t in targets] == [f"hidden.{i}.weight" for i in range(3)]
    assert {t.kind for t in targets} == {"mlp.hidden"}
    pairs = [(p.first.name, p.second.name, p.relation) for p in find_pairs(targets)]
    assert pairs == [
        ("hidden.0.weight", "hidden.1.weight", "sequential"),
        ("hidden.1.weight", "hidden.2.weight", "sequential"),
    ]


def test_percolation_follows_the_chain_to_its_ends_in_both_directions() -> None:
    # Everything is kept where it is but the links of dead neurons: zeta is 0.
    model = mlp(4, 4, 4)
    with torch.no_grad():
        for layer in model.hidden:
            layer.weight.fill_(1.0)
        first, second, third = (layer.weight for layer in model.hidden)
        # Neuron 0 of layer 3 alone reads neuron 0 of layer 2, which alone reads neuron 0 of
        # layer 1; nothing reads neuron 1 of layer 2, the only one to read neuron 1 of layer 1;
        # and neuron 2 of layer 1 has no inputs, the only input of neuron 2 of layer 2.
        second.zero_()
        third.zero_()
        second[0, 0] = second[1, 1] = second[2, 2] = second[3, 3] = 1
        third[0, 0] = third[2, 2] = third[3, 3] = 1
        first[2] = 0
    config = CHTsConfig(
        init="from_weights", regrowth="random", zeta=0.0, update_interval=1, regrow_init="zero"
    )
    sparsifier = Sparsifier(model, None, config, total_steps=4)
    targets = {t.name: t for t in sparsifier.targets}
    layers = [
        LayerInput(t, config, sparsifier.masks[n], t.weight, None, 0, 0.0, 0.5)
        for n, t in targets.items()
    ]
    masks = _percolate(layers, [layer.mask for layer in layers], find_pairs(sparsifier.targets))
    assert masks[0].any(dim=1).tolist() == [True, False, False, True]
    assert masks[1].nonzero().tolist() == [[0, 0], [3, 3]]
    assert masks[2].nonzero().tolist() == [[0, 0], [3, 3]]


def test_all_hidden_neurons_count_for_anp() -> None:
    model = mlp(4, 4, 5)
    with torch.no_grad():
        model.hidden[0].weight[0] = 0  # kills neuron 0 of layer 1
        model.hidden[2].weight[:2] = 0  # and two of the last layer, which a dense one reads
    config = CHTsConfig(method="static", init="from_weights")
    stats = Sparsifier(model, None, config, total_steps=4).stats()
    assert stats["anp"] == pytest.approx((3 + 4 + 3) / 13)


def test_correlations_are_given_at_run_time_and_never_written(tmp_path: Path) -> None:
    samples = torch.randn(50, 24)
    samples[:, 7] = samples[:, 3] + 0.01 * torch.randn(50)
    correlation = torch.corrcoef(samples.T)
    config = CHTsConfig(
        sparsity=0.9, update_interval=2, overrides={r"hidden\.0\.": {"init": "csti"}}
    )
    config.to_file(tmp_path / "config.json")
    assert CHTsConfig.from_file(tmp_path / "config.json") == config
    model = mlp(24, 12)
    sparsifier = Sparsifier(model, None, config, 10, correlation=correlation)
    mask = sparsifier.masks["hidden.0.weight"]
    assert bool(mask.diagonal().all())
    assert bool(mask[3, 7])
    assert bool(mask[7, 3])
    with pytest.raises(ValueError, match=r'hidden\.0\.weight.*init="csti".*correlation=tensor'):
        Sparsifier(mlp(24, 12), None, config, 10)
    everywhere = CHTsConfig(init="csti", update_interval=2)
    with pytest.raises(ValueError, match=r"hidden\.1\.weight, init='csti': correlation has shape"):
        Sparsifier(mlp(16, 12), None, everywhere, 10, correlation=correlation)
    # A state has the masks already.
    state = sparsifier.state_dict()
    sparsifier.close()
    again = Sparsifier(model, None, config, 10, state=state)
    assert torch.equal(again.masks["hidden.0.weight"], mask)


def test_a_tensor_has_no_place_in_a_configuration() -> None:
    with pytest.raises(ValueError, match="init_options must hold numbers.*Tensor.*correlation"):
        CHTsConfig(init="csti", init_options={"correlation": torch.eye(3)})


def test_compact_cuts_dead_neurons_of_every_hidden_layer(tmp_path: Path) -> None:
    model = mlp(20, 18, 16)
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in model.hidden:
            layer.weight *= torch.rand_like(layer.weight) < 0.06
            layer.bias.uniform_(-0.5, 0.5)
    pixels = torch.rand(9, 2, 4, 3)
    expected = model(pixels).logits
    model, report = compact(model)
    torch.testing.assert_close(model(pixels).logits, expected, atol=1e-6, rtol=1e-5)
    assert list(report.widths) == ["hidden.1", "hidden.2", "classifier"]
    widths = list(report.widths.values())
    assert [width.before for width in widths] == [20, 18, 16]
    assert model.config.hidden_sizes == [width.after for width in widths]
    assert all(0 < width.after < width.before for width in widths)
    for layer in model.hidden:  # all that is left is used
        assert bool(layer.weight.ne(0).any(dim=1).all())
    model.save_pretrained(tmp_path)
    again = AutoModelForImageClassification.from_pretrained(tmp_path)
    assert torch.equal(again(pixels).logits, model(pixels).logits)


def test_compact_leaves_one_neuron_where_none_is_alive() -> None:
    model = mlp(6, 5, 4)
    with torch.no_grad():
        model.hidden[1].weight.zero_()
        model.hidden[1].bias.uniform_(-0.5, 0.5)
    pixels = torch.rand(3, 2, 4, 3)
    expected = model(pixels).logits
    model, _ = compact(model)
    assert model.config.hidden_sizes == [1, 1, 1]
    torch.testing.assert_close(model(pixels).logits, expected, atol=1e-6, rtol=1e-5)
