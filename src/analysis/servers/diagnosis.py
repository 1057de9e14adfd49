"""A server's log, facts and counts -> known causes with their fixes, from the table in data/failures.yaml. Pure."""

from __future__ import annotations

from collections.abc import Collection

from analysis.servers import loglines
from analysis.servers.facts import StartupFacts
from analysis.servers.signs import Cause, Match, last, matches, table, told
from analysis.study.plan import Arm

#: A drafter with less than this share accepted is sick (a paired one: 0.3 to 0.8).
LEAST_ACCEPTANCE = 0.02
ENOUGH_DRAFTS = 20
#: Steps of decoding that may pass without a draft: a share of all, and some at the end of each request. Among the 818
#: requests of the reference runs none had one.
MOST_UNDRAFTED, UNDRAFTED_PER_REQUEST = 0.1, 2


def of_stopped(log: str) -> Cause | None:
    """Why a server stopped, while loading or later: the last known root error of the whole log, or None.

    Lines that tell of a retry, and information and warnings, are no root errors. A weak sign (a process was killed, a
    library was missing) is the cause only where no stronger one is known and the engine raised nothing before it.
    """
    found = [(entry, match) for entry in table() if entry.when != "silent" for match in [last(entry, log)] if match]
    strong = [(entry, match) for entry, match in found if not entry.weak]
    if strong:
        return told(*max(strong, key=lambda pair: pair[1].line))  # of one line: the first of the table
    root = loglines.first_error(log) if found else None
    for entry, match in found:
        if root is None or match.line <= root.number:
            return told(entry, match)
    return None


def silent(log: str) -> list[Cause]:
    """Known signs of a sick server in the log of one that did start."""
    return _silent(log, drafts=True)


def of_running(log: str, facts: StartupFacts, arm: Arm) -> list[Cause]:
    """What is wrong, or not as one thinks, with a server that did start: by its log, its facts and what was asked."""
    causes = _silent(log, drafts=arm.speculator.speculates)
    if arm.speculator.speculates and arm.speculator.contradicted_by(facts.method):
        causes.append(
            Cause(
                "method-fell-back",
                f"The engine speculates by '{facts.method}', not by {arm.speculator.title}"
                + (": it does not know the drafter as Gemma 4's." if arm.speculator.method == "mtp" else "."),
                "Check drafter.model and speculative.method, and use vLLM 0.28.0 or later; the log must say"
                f" method='{arm.speculator.method}'.",
                "billings",
            )
        )
    if arm.speculator.speculates and facts.k is not None and facts.k != arm.k:
        causes.append(
            Cause(
                "another-k",
                f"The engine drafts {facts.k} tokens, the arm says {arm.k}.",
                "Remove the flag that overrides it.",
                "ours",
            )
        )
    if not arm.speculator.speculates and facts.method is not None:
        causes.append(
            Cause(
                "baseline-drafts",
                f"The baseline speculates by '{facts.method}'.",
                "Remove --speculative-config from server.args.",
                "ours",
            )
        )
    if facts.eager:
        asked = "as the study asks" if arm.server.enforce_eager else "though the study does not ask for it"
        causes.append(
            Cause(
                "eager-on",
                f"Eager mode is on, {asked}: no compilation and no CUDA graphs, so every arm is slower than it could"
                " be, and small steps most.",
                "Set server.enforce_eager to false unless a start in seconds matters more.",
                "ai-muninn",
            )
        )
    if arm.server.prefix_caching is False and facts.prefix_caching:
        causes.append(
            Cause(
                "prefix-cache-on",
                "The prefix cache is on though the study switched it off.",
                "Remove --enable-prefix-caching from server.args.",
                "ours",
            )
        )
    return causes


def of_counts(
    k: int,
    drafts: int,
    draft_tokens: int,
    accepted: int,
    preemptions: int = 0,
    *,
    tokens: int | None = None,
    requests: int = 0,
    ledger: tuple[int, int] | None = None,
    compiled: Collection[str] = (),
    may_pause: bool = False,
    needs_drafter: bool = True,
) -> list[Cause]:
    """What the counts of one cell (or of several of one arm) tell.

    Parameters
    ----------
    k, drafts, draft_tokens, accepted, preemptions : int
        Drafts per step of the arm; what the engine's counters added.
    tokens, requests : int
        Completion tokens and requests of the cell: they say how many steps there were, and so whether drafting
        stopped in the middle.
    ledger : (int, int), optional
        Drafted steps and accepted tokens by the requests' own records; None where the server keeps none.
    compiled : collection of str
        Kernels that the log says were compiled while the cell ran (`compiled_kernels`).
    may_pause : bool
        The arm switches drafting off at some batch sizes by itself, so steps without a draft are no sign.
    needs_drafter : bool
        False: tokens are looked up in the text, which may hold none, so idle and useless drafts are no sign.
    """
    known = {entry.id: entry for entry in table()}
    causes = []
    steps = None if tokens is None else tokens - requests - accepted  # the first token of a request needs no draft
    watched = k and needs_drafter and not may_pause
    if watched and not drafts and (steps is None or steps > 0):
        fix = known["drafting-disabled"].fix
        causes.append(Cause("drafting-disabled", "The arm has a drafter, and drafted nothing.", fix, "vllm"))
    elif watched and steps and steps - drafts > MOST_UNDRAFTED * steps + UNDRAFTED_PER_REQUEST * requests:
        causes.append(
            Cause(
                "drafting-stopped",
                f"Only {drafts} of about {steps} steps had a draft: drafting stopped in the middle of the measurement.",
                known["drafting-disabled"].fix,
                "ours",
            )
        )
    if k and needs_drafter and draft_tokens >= ENOUGH_DRAFTS and accepted < LEAST_ACCEPTANCE * draft_tokens:
        causes.append(told(known["acceptance-zero"], Match(0, {}, [str(draft_tokens)])))
    if preemptions:
        causes.append(told(known["preempted"], Match(0, {}, [])))
    if k and ledger is not None and ledger != (drafts, accepted):
        causes.append(
            Cause(
                "ledger-disagrees",
                f"The engine counted {drafts} drafts and {accepted} accepted tokens, the requests' own records say "
                f"{ledger[0]} and {ledger[1]}: tokens per step are {_per_step(drafts, accepted)} by one and "
                f"{_per_step(*ledger)} by the other.",
                "Keep the server to the study alone, and measure again.",
                "ours",
            )
        )
    if compiled:
        causes.append(
            Cause(
                "compiled-while-measured",
                f"Kernels were compiled while requests were timed ({', '.join(dict.fromkeys(compiled))}).",
                "Do not use the times of this measurement; raise warmup, so that every shape is met before timing.",
                "vllm 48752",
            )
        )
    return causes


def compiled_kernels(log: str) -> list[str]:
    """Kernels that a piece of log says were compiled during inference, each once."""
    (entry,) = (e for e in table() if e.id == "compiled-in-inference")
    return list(dict.fromkeys(match.groups[0] for sign in entry.signs for match in matches(sign, log, True)))


def _per_step(drafts: int, accepted: int) -> str:
    return f"{1 + accepted / drafts:.2f}" if drafts else "1"


def _silent(log: str, drafts: bool) -> list[Cause]:
    wanted = (e for e in table() if e.when == "silent" and (drafts or not e.mtp_only))
    return [told(entry, match) for entry in wanted if (match := last(entry, log))]
