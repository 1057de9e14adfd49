"""An interrupt reads like one: a sentence, no stack, whichever door it came through."""

from IPython.core.interactiveshell import InteractiveShell

from analysis import __main__ as doors
from analysis.errors import Stopped

SENTENCE = "Stopped. 3 of 6 measurements are on record; run again to go on."


def test_a_notebook_shows_the_sentence_and_no_stack(capsys):
    shell = InteractiveShell()
    shell.user_ns["stop"] = Stopped(SENTENCE)
    shell.run_cell("raise stop")
    shown = capsys.readouterr()
    assert (shown.out + shown.err).strip() == SENTENCE


def test_the_command_line_says_the_same_and_ends_with_130(monkeypatch, capsys):
    def stopped(arguments):
        raise Stopped(SENTENCE)

    monkeypatch.setattr(doors, "_list", stopped)
    assert doors.main(["list"]) == 130
    assert capsys.readouterr().err.strip() == SENTENCE
