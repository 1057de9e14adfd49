"""What names a machine or its user is replaced in every form; ordinary words stay, whoever is called so."""

import html
import json
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.masking import Names, masked, masked_tree

ADA = Names("/home/ada", ("/home/ada/Übung 測定",), "ada", ("engine-7.example.org", "engine-7"))


@pytest.mark.parametrize(
    ("text", "shown", "places"),
    [
        ("--model /home/ada/Übung 測定/data/x", "--model <folder>/data/x", 1),
        (json.dumps("/home/ada/Übung 測定/d"), '"<folder>/d"', 1),
        (json.dumps(json.dumps({"model": "/home/ada/Übung 測定/d"})), r'"{\"model\": \"<folder>/d\"}"', 1),
        (quote("/home/ada/Übung 測定/d"), "<folder>/d", 1),
        ("log in /home/ada/.cache", "log in ~/.cache", 1),
        ("File /home/alice/x.py", "File /home/<user>/x.py", 1),
        ("ssh ada@engine-7", "ssh <user>@<host>", 1),
        ("http://engine-7:8000/v1", "http://<host>:8000/v1", 1),
        ("-v $HOME/.cache/huggingface:/root/.cache/huggingface", None, 0),
        ("ada and engine-7 are words", None, 0),
        ("https://example.org/home/x data/home/y", None, 0),
    ],
)
def test_names_are_replaced_and_counted(text, shown, places):
    assert masked(text, ADA) == (text if shown is None else shown, places)


@pytest.mark.parametrize("name", ["baseline", "summary", "model", "root"])
def test_a_user_who_is_called_like_a_word_of_the_page_gets_the_page(name):
    names = Names(f"/home/{name}", (f"/home/{name}/study",), name, (name,))
    text = f"The {name} of the study, reports/{name}/index.html"
    assert masked(text, names) == (text, 0)
    assert masked(f"/home/{name}/study/x and {name}@{name}", names) == ("<folder>/x and <user>@<host>", 2)


def test_a_notebook_is_walked_and_its_pictures_stay():
    picture = "iVBORw0KGgo" * 20
    tree = [{"text": ["/home/ada/x\n"], "image/png": picture, "n": 3}]
    assert masked_tree(tree, ADA) == ([{"text": ["~/x\n"], "image/png": picture, "n": 3}], 1)


@given(st.lists(st.text("abzÜ測 '\"&<", min_size=1, max_size=8).filter(lambda s: s.strip()), min_size=1, max_size=3))
def test_no_form_of_a_folder_survives(parts):
    folder = "/srv/" + "/".join(p.strip() for p in parts)
    names = Names(folders=(folder,))
    for form in (folder, json.dumps(folder)[1:-1], html.escape(folder), quote(folder)):
        assert folder not in masked(f"x {form}/file y", names)[0]


@given(st.text(max_size=60))
def test_masking_twice_changes_nothing_more(text):
    once, _ = masked(text, ADA)
    assert masked(once, ADA)[0] == once
