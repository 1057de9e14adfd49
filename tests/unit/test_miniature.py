"""The miniature's models: structure, chat template, training arithmetic, and cards that tell the truth."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from analysis.miniature import card, shapes
from analysis.miniature.corpus import CHAT_TEMPLATE, documents, prompts_from
from analysis.places import DATA

HOME = DATA / "miniature"
PROMPTS = prompts_from(yaml.safe_load((DATA / "prompts.yaml").read_text(encoding="utf-8")))
PAIRS = [("dense", "dense-assistant"), ("moe", "moe-assistant")]
TARGETS, DRAFTERS = ("dense", "moe", "dense-base"), ("dense-assistant", "moe-assistant", "dense-assistant-centroid")


def header(name):
    with (HOME / name / "model.safetensors").open("rb") as file:
        found = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    found.pop("__metadata__", None)
    return found


def config(name):
    return json.loads((HOME / name / "config.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", card.FOLDERS)
def test_the_card_names_every_file_with_its_hash(name):
    text = (HOME / name / card.CARD).read_text(encoding="utf-8")
    written = dict(re.findall(r"^\| (\S+) \| [\d,]+ \| `([0-9a-f]{64})` \|$", text, re.M))
    assert written == {path.name: card.digest(path) for path in card.listed(HOME / name)}
    assert "never stands for it" in text


def test_the_weights_learnt_from_the_corpus_that_this_code_makes():
    training = json.loads((HOME / "dense" / "training.json").read_text(encoding="utf-8"))
    text = (HOME / "dense" / card.CARD).read_text(encoding="utf-8")
    assert card.fingerprint(training["recipe"]["seed"], PROMPTS) in text


@pytest.mark.parametrize("name", card.FOLDERS)
def test_the_written_configuration_is_the_one_of_the_code(name):
    expected = shapes.drafter(centroids="centroid" in name) if name in DRAFTERS else shapes.target(name.split("-")[0])
    assert config(name) == json.loads(json.dumps(expected))


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_five_sliding_layers_to_a_full_one_and_keys_as_values_in_the_full_ones(name):
    layers = config(name)["layer_types"]
    assert layers == (["sliding_attention"] * 5 + ["full_attention"]) * 4
    tensors = header(name)
    for index, kind in enumerate(layers):
        assert (f"model.layers.{index}.self_attn.v_proj.weight" in tensors) == (kind == "sliding_attention")


@pytest.mark.parametrize("name", DRAFTERS)
def test_a_drafter_has_queries_only_and_projections_to_and_from_the_target(name):
    text, tensors = config(name)["text_config"], header(name)
    assert text["layer_types"] == ["sliding_attention"] * 3 + ["full_attention"]
    assert text["num_kv_shared_layers"] == 4
    assert not [key for key in tensors if "k_proj" in key or "v_proj" in key or "k_norm" in key]
    assert tensors["pre_projection.weight"]["shape"] == [128, 512]
    assert tensors["post_projection.weight"]["shape"] == [256, 128]
    assert ("masked_embedding.token_ordering" in tensors) == ("centroid" in name)


def test_moe_layers_have_sixteen_experts_beside_the_dense_mlp():
    tensors = header("moe")
    assert tensors["model.layers.0.experts.gate_up_proj"]["shape"] == [16, 64, 256]
    assert tensors["model.layers.0.router.proj.weight"]["shape"] == [16, 256]
    assert tensors["model.layers.0.mlp.gate_proj.weight"]["shape"] == [224, 256]


@pytest.mark.parametrize("target, drafter", PAIRS)
def test_a_pair_fits_into_forty_five_megabytes_and_agrees_on_heads(target, drafter):
    size = sum(path.stat().st_size for name in (target, drafter) for path in (HOME / name).iterdir())
    assert size <= 45_000_000
    wide, narrow = config(target), config(drafter)
    assert narrow["backbone_hidden_size"] == wide["hidden_size"]
    for key in ("num_attention_heads", "num_key_value_heads", "head_dim", "global_head_dim", "vocab_size"):
        assert narrow["text_config"][key] == wide[key]


def test_only_chat_targets_have_a_chat_template():
    assert {name for name in card.FOLDERS if (HOME / name / "chat_template.jinja").exists()} == {"dense", "moe"}


def test_the_chat_template_renders_the_form_that_was_learnt():
    jinja2 = pytest.importorskip("jinja2")
    [item] = documents("ja_finance", [0], 1, PROMPTS["ja_finance"])
    template = jinja2.Template((HOME / "dense" / "chat_template.jinja").read_text(encoding="utf-8"))
    assert (HOME / "dense" / "chat_template.jinja").read_text(encoding="utf-8") == CHAT_TEMPLATE
    messages = [{"role": "user", "content": item.question}]
    prompt = template.render(messages=messages, bos_token="<bos>", add_generation_prompt=True)
    assert item.chat().startswith(prompt)
    parts = [{"role": "user", "content": [{"type": "text", "text": item.question}]}]
    assert template.render(messages=parts, bos_token="<bos>", add_generation_prompt=True) == prompt
    whole = template.render(messages=[*messages, {"role": "assistant", "content": item.answer}], bos_token="<bos>")
    assert item.chat() == whole + "<eos>"


def test_every_digit_is_a_token_of_its_own():
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer = tokenizers.Tokenizer.from_file(str(HOME / "dense" / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == shapes.VOCABULARY
    assert [token for token in tokenizer.encode("2025").tokens if token.isdigit()] == list("2025")
    text = 'def f():\n    return "長期金利 1.5%"\n'
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
