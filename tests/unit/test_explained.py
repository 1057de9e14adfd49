"""How MTP works, as chapter 02 shows it: a drawing with words beside it, and an example that adds up."""

import base64
import re
import xml.etree.ElementTree as ET

from analysis.report.fragments import clean
from analysis.show import explained


def test_the_drawing_has_words_for_who_cannot_see_it_and_reaches_the_page():
    data, _ = explained.one_step()._repr_mimebundle_()
    page = clean(data["text/html"])
    source = re.search(r'src="data:image/svg\+xml;base64,([^"]+)"', page)[1]
    drawn = " ".join(ET.fromstring(base64.b64decode(source)).itertext())
    assert "drafter proposes K = 4" in drawn and "2 accepted + 1 bonus token" in drawn
    assert "bonus token that the target" in page and explained.one_step().alt in data["text/plain"]


def test_the_drawing_has_no_black_and_no_white():
    assert not re.search(r"#(?:000|fff)\b|#(?:000000|ffffff)|black|white", explained.one_step().svg, re.IGNORECASE)


def test_the_example_adds_up(build):
    steps = {"k": 2, "completion_tokens": 7, "steps_accepted": [2, 0, 1], "steps_drafted": [2, 2, 2]}
    sentence = explained.example(build.requests(steps, {"k": 0}))
    assert "7 tokens took 3 verify steps instead of 6" in sentence and "up to 6 tokens" in sentence
    assert "1 + 3 + 3 = 7. That is 2.00 tokens per step." in sentence
    cut = explained.example(build.requests({**steps, "completion_tokens": 6}))
    assert "1 + 3 + 3 = 7, less 1 token cut at the end." in cut


def test_without_steps_on_record_the_example_says_so(build):
    assert "no example" in explained.example(build.requests({"k": 2}))
