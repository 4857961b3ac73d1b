import json

from matplotlib.figure import Figure

from jcs_ct.evaluation.pages.page import Evaluation, write_evaluation
from jcs_ct.evaluation.pages.tables import Column, Table


def evaluation(*names: str) -> Evaluation:
    tables = tuple(Table(name, name, (Column("n", "n"),), ({"n": 1},)) for name in names)
    return Evaluation("x", tables, {f"figure-{name}": (Figure(), name) for name in names}, {})


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def test_nothing_of_an_earlier_evaluation_stands_beside_a_new_one(tmp_path):
    """A table of differences to a method that is compared no more would be taken for one of these."""
    out = tmp_path / "out"
    write_evaluation(out, evaluation("scores", "differences"))
    for kept in (out / "notes.csv", tmp_path / "mine.csv"):
        kept.write_text("a person's own")
    write_evaluation(out, evaluation("scores"))
    page = {"index.html", "evaluation.json", "scores.csv", "figure-scores.png", "figure-scores.svg"}
    assert names_in(out) == page | {"notes.csv"}
    stated = json.loads((out / "evaluation.json").read_text())
    (out / "evaluation.json").write_text(json.dumps({**stated, "tables": {"../mine": {}, "*": {}}}))
    write_evaluation(out, evaluation("scores"))
    assert names_in(out) == page | {"notes.csv"}
    assert (tmp_path / "mine.csv").is_file()
    for damaged in ("{", "[]", '{"tables": 3, "figures": null}'):
        (out / "evaluation.json").write_text(damaged)
        write_evaluation(out, evaluation("scores"))
        assert names_in(out) == page | {"notes.csv"}
