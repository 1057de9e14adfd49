"""The published launches, argument for argument. Lists are written from the articles, not from our code."""

import shlex

from analysis import plan
from analysis.params import load_study
from analysis.servers import launch, render

PATCHED = "/usr/local/lib/python3.12/dist-packages/vllm/model_executor/models/gemma4_mtp.py"


def arm(study, name):
    return next(a for a in plan.make(load_study(study)).arms if a.name == name)


def suzuki(model, served, drafter, k):
    return [
        *"docker run -d --name vllm-mtp --gpus all --ipc host --shm-size 64gb -p 8000:8000".split(),
        *("-v", "$HOME/ai_news2fund/hf_cache:/root/.cache/huggingface"),
        *("-v", f"$HOME/mtp_assets/gemma4_mtp.py:{PATCHED}:ro"),
        *("vllm/vllm-openai:gemma4-0505-arm64-cu130", model, "--served-model-name", served),
        *"--max-model-len 4096 --max-num-batched-tokens 4096 --gpu-memory-utilization 0.85 --kv-cache-dtype fp8".split(),
        *("--speculative-config", f'{{"method":"mtp","model":"{drafter}","num_speculative_tokens":{k}}}'),
    ]


def test_the_published_31b_launch():
    made = launch.docker_command(arm("gb10-31b-preview", "mtp-k4"))
    assert made == suzuki("RedHatAI/gemma-4-31B-it-FP8-Dynamic", "gemma4-31b-mtp", "google/gemma-4-31B-it-assistant", 4)


def test_the_published_26b_launch_at_every_k():
    for k in (1, 2, 4, 8):
        made = launch.docker_command(arm("gb10-26b-a4b-preview", f"mtp-k{k}"))
        assert made == suzuki(
            "RedHatAI/gemma-4-26B-A4B-it-FP8-Dynamic", "gemma4-26b-mtp", "google/gemma-4-26B-A4B-it-assistant", k
        )


def test_a_baseline_differs_from_the_published_launch_by_the_speculative_config_alone():
    for study in ("gb10-31b-preview", "gb10-26b-a4b-preview"):
        assert launch.docker_command(arm(study, "baseline")) == launch.docker_command(arm(study, "mtp-k4"))[:-2]


def test_the_printed_line_is_the_same_command_to_a_shell():
    for name in ("baseline", "mtp-k4"):
        one = arm("gb10-31b-preview", name)
        assert shlex.split(render.launch(one, "docker")) == launch.docker_command(one)
