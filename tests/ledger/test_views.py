"""The comparison, the page and the cell magic show what the table shows."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
import textwrap

import matplotlib.text
import pytest
import torch
from torch import nn

import fnlib
from fnlib.ledger import Ledger
from fnlib.ledger.views import view
from fnlib.ledger.views.scene import scene

DATA = [(torch.randn(8, 4), torch.randint(0, 3, (8,))) for _ in range(2)]


def stock() -> Ledger:
    model, criterion = (
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
        nn.CrossEntropyLoss(),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with Ledger(model=model, optimizer=optimizer) as ledger:
        for feature, label in DATA:
            optimizer.zero_grad()
            output = model(feature)
            loss = criterion(output, label)
            loss.backward()
            optimizer.step()
    return ledger


def functional() -> Ledger:
    ModelFactory, criterion = (
        fnlib.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)),
        nn.CrossEntropyLoss(),
    )
    model = ModelFactory(fnlib.Parameters())
    parameters = model.parameters
    with Ledger(model=model, parameters=parameters) as ledger:
        for feature, label in DATA:
            output = model(feature)
            loss = criterion(output, label)
            gradient = model.backward(loss)
            parameters = model.step(gradient)
            model = ModelFactory(parameters)
    return ledger


COMPARISON = """\
Two recordings side by side
  iteration 2 of 2                                  iteration 2 of 2
  for feature, label in DATA:                       for feature, label in DATA:
      feature, label: rebound                           feature, label: rebound
      optimizer.zero_grad()
        ! model: 4 gradients: removed
      output = model(feature)                           output = model(feature)
          output: rebound, graph built                      output: rebound, graph built
      loss = criterion(output, label)                   loss = criterion(output, label)
          loss: rebound, graph built                        loss: rebound, graph built
      loss.backward()                                   gradient = model.backward(loss)
        ! model: 4 gradients: created                       gradient (4 tensors): rebound
          loss: graph freed                                 loss: graph freed
      optimizer.step()                                  parameters = model.step(gradient)
        ! model: 4 weights: changed in place                parameters (4 tensors): rebound
                                                        model = ModelFactory(parameters)
                                                            model (4 tensors): rebound

  3 of 5 statements act at a distance; 4 values     0 of 5 statements act at a distance; 0 values
    overwritten; 2 names rebound                      overwritten; 5 names rebound
  not counted: the graph behind a loss is used up   not counted: the graph behind a loss is used up
! the statement does not name the owner of what it changes: action at a distance"""


def test_two_loops_side_by_side() -> None:
    comparison = fnlib.compare(stock().iteration(2), functional().iteration(2))
    assert str(comparison) == COMPARISON
    found = json.loads(json.dumps(comparison.to_dict()))
    assert found["counts"][0]["at_a_distance"] == 3 and found["counts"][1]["at_a_distance"] == 0
    assert len(found["rows"]) == 7 and [pair[1] is None for pair in found["rows"]].index(True) == 1
    assert max(map(len, str(fnlib.compare(stock(), functional())).splitlines())) <= 100


def clears_last() -> Ledger:
    """The stock loop in another order and with other names: no statement has the same text."""
    net, metric = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)), nn.CrossEntropyLoss()
    adam = torch.optim.Adam(net.parameters())
    with Ledger(net=net, adam=adam) as ledger:
        for x, y in DATA:
            scores = net(x)
            error = metric(scores, y)
            error.backward()
            adam.step()
            adam.zero_grad()
    return ledger


def test_rows_are_paired_by_what_they_do() -> None:
    """Statements of the same role are side by side, wherever they are and whatever they are called."""
    rows = fnlib.compare(stock().iteration(2), clears_last().iteration(2)).rows
    pairs = [tuple(row and row.code.strip() for row in pair) for pair in rows]
    assert pairs == [
        ("for feature, label in DATA:", "for x, y in DATA:"),
        ("optimizer.zero_grad()", None),
        ("output = model(feature)", "scores = net(x)"),
        ("loss = criterion(output, label)", "error = metric(scores, y)"),
        ("loss.backward()", "error.backward()"),
        ("optimizer.step()", "adam.step()"),
        (None, "adam.zero_grad()"),
    ]


class Page(html.parser.HTMLParser):
    """Text and tags of a page; fails on what is not closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)
        assert not self.open, self.open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_says_what_the_table_says_and_asks_for_nothing() -> None:
    ledger = stock()
    for shown in (ledger, ledger.iteration(1), fnlib.compare(ledger, functional())):
        page = shown._repr_html_()
        found = Page(page)
        text = " ".join("".join(found.words).split())
        for entry in ledger.iteration(1).entries:
            assert entry.source in text
        assert (
            "model: 4 weights" in text
            and "changed in place" in text
            and "not counted: the graph behind a loss is used up" in text
        )
        assert (
            not re.search(r"(src|href|@import|url\()", page)
            and "<script" not in page
            and "http" not in page
        )
        # Words take the page's own colour, in either theme; signs are hidden from screen readers.
        signs = re.compile(r'<span aria-hidden="true" style="color:#\w{6}">[●■◆✖○]</span> ')
        assert set(re.findall(r"[^-]color:([^;\"]+)", signs.sub("", page))) <= {"inherit"}
    details = [tag for tag, _ in Page(ledger._repr_html_()).tags if tag == "details"]
    assert len(details) == 2  # one for each iteration
    assert any(
        tag == "th" and attributes.get("scope") == "row"
        for tag, attributes in Page(ledger._repr_html_()).tags
    )


def test_source_text_is_escaped_on_the_page() -> None:
    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        x.add_(1 < 2 and "<b>" != "&")
    assert "1 &lt; 2 and &quot;&lt;b&gt;&quot; != &quot;&amp;&quot;" in ledger._repr_html_()


def test_a_long_run_keeps_its_page_short() -> None:
    x = torch.zeros(1)
    with Ledger(x=x) as ledger:
        for _ in range(200):
            x.add_(1)
    page = ledger._repr_html_()
    assert (
        page.count("<details>") == 12
        and "188 more iterations" in page
        and len(str(ledger).splitlines()) == 5
    )


def shell() -> object:
    from IPython.core.interactiveshell import InteractiveShell

    InteractiveShell.clear_instance()
    ipython = InteractiveShell.instance()
    ipython.run_line_magic("load_ext", "fnlib.ledger")
    ipython.run_cell(
        textwrap.dedent(
            """
            import torch
            from torch import nn
            torch.manual_seed(0)
            model = nn.Linear(2, 1)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
            def train_step():
                optimizer.zero_grad()
                model(torch.ones(1, 2)).sum().backward()
                optimizer.step()
            """
        )
    ).raise_error()
    return ipython


def test_the_cell_magic(capsys: pytest.CaptureFixture[str]) -> None:
    ipython = shell()
    ipython.run_cell(
        "%%ledger model optimizer\nfor step in range(2):\n    optimizer.zero_grad()\n"
        "    model(torch.ones(1, 2)).sum().backward()\n    optimizer.step()\nstep + 40"
    ).raise_error()
    ledger = ipython.user_ns["ledger"]
    assert [entry.source for entry in ledger.iteration(2).entries if entry.kind == "statement"] == [
        "optimizer.zero_grad()", "model(torch.ones(1, 2)).sum().backward()", "optimizer.step()",
    ]  # fmt: skip
    assert (
        ledger.iteration(2).counts.at_a_distance == 2
    )  # the forward and backward in one line names the model
    assert ledger.entries[-1].source == "step + 40" and ledger.watched == ("model", "optimizer")
    printed = capsys.readouterr().out
    assert "41" in printed and "model: 2 weights" in printed  # the cell's last value, and the table
    assert ipython.user_ns["step"] == 1


def test_the_cell_magic_with_options_and_mistakes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The cell magic works without names and with options, and explains mistakes."""
    ipython = shell()
    ipython.run_cell(
        "%%ledger --into seen --depth 1 --keep\ntrain_step()\noptimizer.param_groups[0]['lr'] = 1.0"
    ).raise_error()
    seen = ipython.user_ns["seen"]
    assert [inner.source for inner in seen.entries[0].inside][-1] == "optimizer.step()"
    weights = [change for change in seen.entries[0].changes if change.state == "weight"]
    assert weights and weights[0].after.value is not None
    for line, says in (
        ("missing", "there is no variable missing yet"),
        ("--deep 3", "does not know --deep"),
    ):
        capsys.readouterr()
        result = ipython.run_cell(f"%%ledger {line}\nx = 1")
        assert says in str(result.error_in_exec)
    capsys.readouterr()
    result = ipython.run_cell(
        "%%ledger model\nwith torch.no_grad(): model.weight.add_(1)\nmodel(torch.ones(1, 3))"
    )
    assert isinstance(result.error_in_exec, RuntimeError)
    assert (
        "raised RuntimeError" in capsys.readouterr().out
        and ipython.user_ns["ledger"].entries[0].changes
    )


@pytest.mark.long
def test_in_a_real_kernel() -> None:
    import nbformat
    from nbclient import NotebookClient

    cells = [
        "import torch\nfrom torch import nn\nimport fnlib\n%load_ext fnlib.ledger\nmodel = nn.Linear(2, 1)",
        "with fnlib.Ledger(model=model) as ledger:\n    loss = model(torch.ones(1, 2)).sum()\n    loss.backward()\nledger",
        "%%ledger model\nwith torch.no_grad():\n    model.weight.add_(1)",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=120).execute()
    for cell, text in ((1, "model: 2 gradients"), (2, "model.weight")):
        data = [output.data for output in notebook.cells[cell].outputs if "data" in output]
        assert text in data[0]["text/plain"] and text in data[0]["text/html"]


@pytest.mark.long
def test_the_ledger_does_not_import_what_it_does_not_need() -> None:
    program = (
        "import sys, fnlib.ledger, fnlib.ledger.magic\n"
        "print([n for n in ('IPython', 'matplotlib', 'ipywidgets') if n in sys.modules])"
    )
    assert (
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        == "[]"
    )


def test_one_iteration_has_a_picture_and_a_player_of_its_own() -> None:
    ledger = stock()
    second = ledger.iteration(2)
    assert second.plot().alt == ledger.plot(iteration=2).alt != ledger.plot(iteration=1).alt
    player = second.replay()
    player.slider.value = 4
    assert player.slider.max == len(second.entries) == 6 and "loss.backward()" in player.value


def test_every_word_of_a_picture_is_inside_of_it() -> None:
    model, random_numbers = nn.Linear(4, 3), torch.Generator()
    with Ledger(model=model, a_generator_with_a_long_name=random_numbers) as ledger:
        noise = torch.randn(2, 4, generator=random_numbers)
        model(noise + torch.rand(2, 4)).sum().backward()
    figure = ledger.plot()
    figure.canvas.draw()
    for text in figure.findobj(lambda one: hasattr(one, "get_text") and one.get_text().strip()):
        box = text.get_window_extent()
        assert (
            box.x0 >= 0 and box.x1 <= figure.bbox.x1 and box.y0 >= 0 and box.y1 <= figure.bbox.y1
        ), text.get_text()


def test_findings_read_as_a_report_and_an_iteration_has_its_own() -> None:
    weight = torch.ones(3, requires_grad=True)
    optimizer = torch.optim.Adam([weight], lr=0.1, fused=True)
    with Ledger(weight=weight, optimizer=optimizer) as ledger:
        for number in range(2):
            loss = (weight * weight).sum()
            (2 * weight.sum()).backward()
            if number:
                optimizer.step()
            loss.backward()
            optimizer.zero_grad()
    assert [finding.code for finding in ledger.findings] == ["weights-moved-before-backward"]
    assert str(ledger.findings).startswith("CERTAIN weights-moved-before-backward, ")
    assert f"test_views.py:{ledger.findings[0].line}, " in str(ledger.findings)
    assert str(ledger.iteration(1).findings) == "nothing found"
    assert ledger.iteration(2).findings == ledger.findings
    assert "a bug was found here" in {
        text.get_text() for text in ledger.iteration(2).plot().findobj(matplotlib.text.Text)
    }


def heads(ledger: Ledger) -> set[str]:
    return {lane.head or lane.title for lane in scene(ledger).lanes}


def test_what_nothing_changes_and_nobody_asked_for_has_no_lane() -> None:
    """A criterion with class weights and a network that is only run are not drawn."""
    model, criterion = nn.Linear(4, 3), nn.CrossEntropyLoss(weight=torch.ones(3))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    judge = nn.Linear(4, 3)
    for things in ({}, {"judge": judge}):
        with Ledger(**(things and {"model": model, "optimizer": optimizer, **things})) as ledger:
            for feature, label in DATA:
                optimizer.zero_grad()
                judge(feature)
                loss = criterion(model(feature), label)
                loss.backward()
                optimizer.step()
        assert heads(ledger) == {"loss", "model", "optimizer", *things}


def test_findings_and_counts_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = stock()
    assert ledger.findings is ledger.findings and ledger.counts is ledger.counts
    monkeypatch.setattr(view, "find", lambda entries: pytest.fail("asked again"))
    assert ledger.plot() and ledger._repr_html_() and ledger.findings == []
    with Ledger() as running:
        before = running.counts.statements
        weight = torch.ones(2)
        assert running.counts.statements > before and weight is not None
