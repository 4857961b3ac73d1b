"""Progress goes to stderr, a line at a time where no one looks at a bar."""

import json

from jcs_ct.cli.console import print_json, stage_progress, step_progress


def test_json_goes_to_stdout(capsys):
    print_json({"a": 1.5})
    assert json.loads(capsys.readouterr().out) == {"a": 1.5}


def test_stages_as_json_lines_without_repeats(capsys):
    with stage_progress(as_json=True) as progress:
        for done in (0, 1, 1, 2):
            progress("classify", done, 2)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert [json.loads(line)["done"] for line in captured.err.splitlines()] == [0, 1, 2]


def test_quiet_says_nothing(capsys):
    with stage_progress(quiet=True) as progress:
        progress("classify", 1, 2)
    assert capsys.readouterr().err == ""


def test_training_without_a_terminal_prints_lines(capsys):
    with step_progress(6, line_every=2) as progress:
        for step in range(1, 6):
            progress(step, 5, {"loss": 1.0 / step})
    assert capsys.readouterr().err.splitlines() == [
        "step 1/5: loss 1.0000",
        "step 2/5: loss 0.5000",
        "step 4/5: loss 0.2500",
        "step 5/5: loss 0.2000",
    ]
