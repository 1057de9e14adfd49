"""Whether the lengths that a study asks for can be served: the contexts fit the model, and the document is there."""

from __future__ import annotations

from collections.abc import Iterator

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from analysis.errors import ParamsError
from analysis.servers.checkpoints import Files
from analysis.servers.preflight.check import Check
from analysis.study import axes, own
from analysis.study.plan import Arm, Plan


def template(plan: Plan, arm: Arm, target: Files) -> Iterator[Check]:
    """What the chat template must know: a switch for thinking, and the roles of a study's own conversations."""
    path = target.folder / "chat_template.jinja" if target.folder else None
    text = path.read_text(encoding="utf-8") if path and path.is_file() else None
    if True in plan.study.thinking:
        if text is not None and "enable_thinking" not in text:
            yield Check(
                "thinking",
                "fail",
                "the chat template has no switch enable_thinking",
                "Remove thinking, or use a target that can.",
            )
        elif not any("--reasoning-parser" in word for word in arm.server.args):
            fix = "Add --reasoning-parser gemma4 to server.args: else thought and answer come as one text."
            yield Check("thinking", "warn", "it is asked for, and no reasoning parser is set", fix)
    talks = [
        m
        for spec in plan.study.prompt_files
        for p in own.read(spec, plan.study.seed).prompts
        for m in [p.messages]
        if m
    ]
    if any(len(talk) > 1 for talk in talks):  # until analysis.measure.client sends Request.conversation()
        evidence = "the client sends the last message of a conversation alone"
        yield Check("own conversations", "fail", evidence, "Give prompts of one message, for now.")
    if text is not None and talks:
        yield from _renders(text, talks)


def _renders(text: str, talks: list[tuple[tuple[str, str], ...]]) -> Iterator[Check]:
    """Whether the template takes every conversation, in its own words where it does not."""

    def refuse(said: str) -> None:
        raise jinja2.TemplateError(said)

    room = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"])
    for talk in talks:
        messages = [{"role": role, "content": content} for role, content in talk]
        try:
            compiled = room.from_string(text)
            compiled.render(messages=messages, add_generation_prompt=True, bos_token="", raise_exception=refuse)
        except Exception as error:  # a template may fail in any way: the server would say so after minutes of loading
            roles = ", ".join(dict.fromkeys(role for role, _ in talk))
            fix = "Change the roles in the prompt file: put a system message into the first one of the user."
            yield Check("chat template and own prompts", "fail", f'it refuses {roles}: "{str(error)[:160]}"', fix)
            return
    yield Check("chat template and own prompts", "ok", f"it takes all {len(talks)} conversations")


def lengths(plan: Plan, arm: Arm, target: Files) -> Iterator[Check]:
    """Checks of `context_tokens`, `output_tokens` and `context_document`; none for a study without them."""
    study = plan.study
    filled, answer = axes.longest(study)
    if not filled:
        return
    trained = (target.config.get("text_config") or target.config).get("max_position_embeddings")
    given, limit = "server.max_model_len", arm.server.max_model_len
    if limit is None or (isinstance(trained, int) and trained < limit):
        given, limit = "the checkpoint's max_position_embeddings", trained if isinstance(trained, int) else None
    evidence = f"{filled - answer} tokens of context and {answer} of answer"
    if limit is None:
        yield Check(
            "context", "warn", f"{evidence}; what the model takes is not known here", "Set server.max_model_len."
        )
    elif filled > limit:
        yield Check("context", "fail", f"{evidence} do not fit {given} ({limit})", f"Stay below {limit} together.")
    else:
        yield Check("context", "ok", f"{evidence} fit {given} ({limit})")
    if study.context_document and study.context_tokens:
        try:
            text = axes.read(study.context_document)
            # a token of plain text has two to five characters: half of one cannot be
            short = len(text) < study.context_tokens[-1] / 2
            yield Check(
                "context document",
                "fail" if short else "ok",
                f"{study.context_document} has {len(text)} characters, for up to {study.context_tokens[-1]} tokens",
                "Name a longer document, or lower context_tokens." if short else "",
            )
        except ParamsError as error:
            maker = (
                "Run python -m analysis.dummy, which writes it." if study.stamp == "synthetic-acceptance" else error.fix
            )
            yield Check("context document", "fail", f"{error.what.rstrip('.')}: {error.why}", maker)
