"""Whether the lengths that a study asks for can be served: the contexts fit the model, and the document is there."""

from __future__ import annotations

from collections.abc import Iterator

from analysis.errors import ParamsError
from analysis.servers.checkpoints import Files
from analysis.servers.preflight.check import Check
from analysis.study import axes
from analysis.study.plan import Arm, Plan


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
