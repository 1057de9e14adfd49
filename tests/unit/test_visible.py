"""Signs that would steer a terminal or turn code around are shown as escapes, wherever text of others is shown."""

import sys
import unicodedata

import pandas as pd

from analysis.errors import ServerError
from analysis.show import outputs
from analysis.study.study_file import validate
from analysis.visible import visible

TURNED = "if access == 'user\u202e \u2066# only admins\u2069 \u2066':\x1b[2J"


def test_signs_become_escapes_and_writing_stays():
    assert visible(TURNED) == r"if access == 'user\u202e \u2066# only admins\u2069 \u2066':\x1b[2J"
    kept = "日本語\u3000全角, é, 👩\u200d💻, tab\tand line\n"
    assert visible(kept) == kept and visible("a\rb\ud800\u200bc") == r"a\rb\ud800\u200bc"


def test_every_unseen_sign_of_unicode_is_shown():
    unseen = [s for s in map(chr, range(sys.maxunicode)) if unicodedata.category(s) in {"Cc", "Cf", "Cs", "Zl", "Zp"}]
    assert [s for s in unseen if visible(s) == s] == ["\t", "\n", "\u200c", "\u200d"]


def test_errors_tables_panels_and_titles_show_them():
    frame = pd.DataFrame({"a": [TURNED]})
    shown = [
        str(ServerError(TURNED, why=TURNED, details=TURNED)),
        *outputs.Table(frame, TURNED)._repr_mimebundle_()[0].values(),
        *outputs.SideBySide([outputs.Panel(TURNED, TURNED, TURNED, alt=TURNED)])._repr_mimebundle_()[0].values(),
        outputs.Say(TURNED)._repr_mimebundle_()[0]["text/plain"],
        validate({"study": "x", "title": TURNED, "target": {"model": "t"}, "drafter": {"model": "d"}}).title,
    ]
    for text in shown:
        assert "\x1b" not in text and "\u202e" not in text and r"\u202e" in text
