"""Folders without weights: transformers reads them, they hold the sizes of data/models.yaml, and every token is a word."""

from __future__ import annotations

import hashlib
import json

import pytest
import torch
from tokenizers.decoders import DecodeStream
from transformers import AutoConfig, AutoTokenizer, Gemma4AssistantForCausalLM, Gemma4ForCausalLM

from analysis import dummy, shapes, vllm_dummy
from analysis.errors import ParamsError, StudyError
from analysis.servers import checkpoints, machine, preflight
from analysis.study import plan
from analysis.study.study_file import load_study

BOTH = pytest.mark.parametrize("name", dummy.NAMES)


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Both pairs, written once."""
    folder = tmp_path_factory.mktemp("shapes")
    assert dummy.main(["--into", str(folder)]) == 0
    return folder


def matrices(model: torch.nn.Module) -> int:
    """Parameters in tensors of two or more dimensions, the tied head counted once: no norms, no scalars."""
    return sum(p.numel() for p in model.parameters() if p.dim() > 1)


@BOTH
def test_the_folders_hold_no_weights_and_what_a_server_reads(home, name):
    for folder in (home / name, home / f"{name}-assistant"):
        assert {f.name for f in folder.iterdir()} == {
            *("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
        }


@BOTH
def test_the_models_have_the_parameters_that_the_shapes_count(home, name):
    shape = shapes.models()[0][name]
    with torch.device("meta"):
        target = Gemma4ForCausalLM(AutoConfig.from_pretrained(home / name))
        drafter = Gemma4AssistantForCausalLM(AutoConfig.from_pretrained(home / f"{name}-assistant"))
    assert matrices(target) == shapes.total_parameters(shape)
    assert matrices(drafter) == shapes.drafter_parameters(shape)


@BOTH
def test_the_drafter_has_the_attention_of_the_target_whose_keys_it_reads(home, name):
    target, drafter = dummy.target(name), dummy.drafter(name)
    for key in ("num_key_value_heads", "num_global_key_value_heads", "head_dim", "global_head_dim", "sliding_window"):
        assert target[key] == drafter["text_config"][key]
    assert drafter["backbone_hidden_size"] == target["hidden_size"]
    assert drafter["use_ordered_embeddings"] is False


def test_layers_and_experts_of_the_published_models():
    small, large = dummy.target("gemma-4-26B-A4B-it"), dummy.target("gemma-4-31B-it")
    assert large["layer_types"][:6] == ["sliding_attention"] * 5 + ["full_attention"]
    assert [c["layer_types"].count("full_attention") for c in (small, large)] == [5, 10]
    assert (small["num_experts"], small["top_k_experts"], small["moe_intermediate_size"]) == (128, 8, 704)
    assert "num_experts" not in large


def test_a_number_of_data_models_yaml_reaches_both_configurations(monkeypatch):
    targets, *rest = shapes.models()
    changed = targets["gemma-4-31B-it"].model_copy(update={"hidden": 640, "kv_heads": 8})
    monkeypatch.setattr(shapes, "models", lambda: ({"gemma-4-31B-it": changed}, *rest))
    assert dummy.target("gemma-4-31B-it")["hidden_size"] == 640
    assert dummy.drafter("gemma-4-31B-it")["backbone_hidden_size"] == 640
    assert dummy.target("gemma-4-31B-it")["num_key_value_heads"] == 8


def test_every_id_is_a_word_and_words_come_back(home):
    tokenizer = AutoTokenizer.from_pretrained(home / dummy.NAMES[0])
    assert len(tokenizer) == 262_144
    assert tokenizer("w7 w262143 nothing", add_special_tokens=False).input_ids == [7, 262_143, 5]
    assert tokenizer.decode([7, 262_143, 99], skip_special_tokens=True) == "w7 w262143 w99"


def test_a_stream_of_tokens_gives_text_at_every_token(home):
    tokenizer = AutoTokenizer.from_pretrained(home / dummy.NAMES[0])
    stream = DecodeStream(skip_special_tokens=True)
    assert "".join(stream.step(tokenizer._tokenizer, i) or "" for i in (7, 0, 8, 9)) == "w7 w8 w9"


def test_the_chat_template_opens_the_turn_of_the_model(home):
    tokenizer = AutoTokenizer.from_pretrained(home / dummy.NAMES[0])
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "w9"}], tokenize=False, add_generation_prompt=True
    )
    assert text == "<bos><|turn>user\nw9<turn|>\n<|turn>model\n"
    assert tokenizer(text, add_special_tokens=False).input_ids == [2, 3, 5, 9, 4, 3, 5]


def test_the_same_name_gives_the_same_bytes_so_that_records_are_found_elsewhere(home, tmp_path):
    def prints(folder):
        return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}

    dummy.write(dummy.NAMES[0], tmp_path / "again")
    assert prints(tmp_path / "again") == prints(home / dummy.NAMES[0])


@pytest.mark.parametrize(("name", "why"), [("gemma-4-E4B-it", "only the checkpoint has"), ("gemma", "no target")])
def test_a_shape_that_cannot_be_written_is_refused_with_those_that_can(name, why, tmp_path):
    with pytest.raises(ParamsError, match="gemma-4-31B-it") as error:
        dummy.write(name, tmp_path / name)
    assert why in error.value.why
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="cannot be written"):
        dummy.write(dummy.NAMES[0], tmp_path / "file" / "x")
    assert dummy.main([dummy.NAMES[0], "--into", str(tmp_path / "file")]) == 1
    assert "Fix: Name another folder" in capsys.readouterr().err


def test_a_folder_without_weights_is_complete_only_where_the_engine_makes_them_up(home):
    arm = next(a for a in plan.make(load_study("h200-shapes")).arms if a.k)
    model = arm.target.model_copy(update={"model": str(home / dummy.NAMES[0])})
    assert checkpoints.find(arm, model).complete
    with_weights = plan.make(load_study("h100-31b")).arms[0]
    assert checkpoints.find(with_weights, model).missing == ("model.safetensors",)


# -- the weights that vLLM makes up ----------------------------------------------------------------------------------


def test_a_matrix_keeps_the_size_of_what_passes_through_it_and_what_is_no_matrix_is_one():
    matrix, norm = torch.zeros(512, 1024, dtype=torch.bfloat16), torch.zeros(1024)
    for tensor in (matrix, norm):
        vllm_dummy.fill(tensor, -1e-3, 1e-3, 1234)
    passed = torch.randn(64, 1024, generator=torch.Generator().manual_seed(0)) @ matrix.float().T
    assert passed.std().item() == pytest.approx(1, abs=0.03)
    assert (norm == 1).all()


def test_two_tensors_of_one_shape_differ_and_integers_and_meta_tensors_stay():
    one, other, ids, later = torch.zeros(4, 8), torch.zeros(4, 8), torch.arange(4), torch.zeros(4, 8, device="meta")
    for tensor in (one, other, ids, later):
        vllm_dummy.fill(tensor)
    assert not torch.equal(one, other)
    assert ids.tolist() == [0, 1, 2, 3] and later.is_meta


def test_the_study_names_the_extension_that_is_there():
    args = load_study("h200-shapes").server.args
    module, _, name = args[args.index("--worker-extension-cls") + 1].rpartition(".")
    assert module == vllm_dummy.__name__ and hasattr(vllm_dummy, name)
    assert json.loads(args[args.index("--attention-config") + 1]) == {"backend": "TRITON_ATTN"}


def test_preflight_takes_made_up_weights_for_what_they_will_weigh(home):
    def checks(folder):
        study = load_study(
            "h200-shapes", variants=[], target={"model": str(folder)}, drafter={"model": f"{folder}-assistant"}
        )
        return {c.name: c for c in preflight.run(plan.make(study), machine.Machine(total_gib=100, free_gib=90))}

    found = checks(home / dummy.NAMES[0])
    assert "makes up the weights" in found[f"target {home / dummy.NAMES[0]}"].evidence
    assert found["memory for weights"].evidence.startswith("weights 30.9")  # 29.3 e9 bytes in FP8, 1.4 e9 x 2 in BF16
    assert found["target and drafter belong together"].verdict == "ok"
    absent = checks("data/cache/none")
    assert absent["target data/cache/none"].fix == "Run: python -m analysis.dummy."
    assert "disk for checkpoints" not in absent
