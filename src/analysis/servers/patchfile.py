"""gemma4_mtp.py as text -> which of the two bugs of the preview images are in it. Pure: the file is parsed, never run."""

from __future__ import annotations

import ast
from collections.abc import Iterator

#: Classes of layers that hold the drafter's weights: these are BF16, whatever the target's quantisation.
WEIGHTS = ("Linear", "MLP")


def bugs(text: str) -> list[str]:
    """One sentence a bug; an empty list for a sound file.

    1. ``intermediate_size`` is read from the top-level configuration, where it is half of the text configuration's.
    2. The target's ``quant_config`` reaches linear layers of the drafter, whose weights are not quantised.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return ["it is not Python: the download is an error page, or cut short"]
    found = []
    if lines := sorted(_top_level_width(tree)):
        found.append(f"intermediate_size comes from the top-level configuration (line {_list(lines)})")
    if _takes_the_targets_quantisation(tree) and (lines := sorted(_quantised_weights(tree))):
        found.append(f"the target's quant_config reaches the drafter's linear layers (line {_list(lines)})")
    return found


def _top_level_width(tree: ast.AST) -> Iterator[int]:
    for function in _functions(tree):
        text_names = {n for n in _assigned(function, _is_text_config)}
        for node in ast.walk(function):
            if isinstance(node, ast.keyword) and node.arg == "intermediate_size" and _attribute(node.value):
                owner = _attribute(node.value)
                if "text" not in owner and owner not in text_names:
                    yield node.value.lineno


def _takes_the_targets_quantisation(tree: ast.AST) -> bool:
    return any(
        isinstance(node, ast.Attribute)
        and node.attr == "quant_config"
        and isinstance(node.value, ast.Name)
        and node.value.id == "vllm_config"
        for node in ast.walk(tree)
    )


def _quantised_weights(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        if any(kind in name for kind in WEIGHTS):
            for keyword in node.keywords:
                if keyword.arg == "quant_config" and not _is_none(keyword.value):
                    yield keyword.value.lineno


def _functions(tree: ast.AST) -> Iterator[ast.AST]:
    return (n for n in ast.walk(tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)))


def _assigned(function: ast.AST, wanted) -> Iterator[str]:
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and wanted(node.value):
            yield from (t.id for t in node.targets if isinstance(t, ast.Name))


def _is_text_config(value: ast.expr) -> bool:
    return "text_config" in ast.unparse(value)


def _attribute(value: ast.expr) -> str:
    """``config`` of ``config.intermediate_size`` or ``getattr(config, "intermediate_size", …)``; empty otherwise."""
    if isinstance(value, ast.Attribute) and value.attr == "intermediate_size":
        return ast.unparse(value.value)
    if isinstance(value, ast.Call) and getattr(value.func, "id", "") == "getattr" and len(value.args) > 1:
        asked = value.args[1]
        if isinstance(asked, ast.Constant) and asked.value == "intermediate_size":
            return ast.unparse(value.args[0])
    return ""


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _list(lines: list[int]) -> str:
    return "/".join(map(str, dict.fromkeys(lines)))
