"""`peakmem check`: exit codes, what is printed where, and what CI servers read."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
V2 = '[model.v2]\nsource = "mobilenet_v2"\n'
# its live peak is 6,021,120 B, its weights 14,156,216 B (tests/unit/test_pytest_plugin.py, tests/unit/zoo)


@pytest.fixture
def check(run, tmp_path, monkeypatch):
    """Write peakmem.toml and run `peakmem check`: (exit code, stdout, stderr)."""
    for name in ("GITHUB_ACTIONS", "GITHUB_STEP_SUMMARY", "GITHUB_WORKSPACE"):
        monkeypatch.delenv(name, raising=False)

    def call(text: str, *arguments: str) -> tuple[int, str, str]:
        (tmp_path / "peakmem.toml").write_text(text, encoding="utf-8")
        return run("check", *arguments)

    return call


@pytest.mark.parametrize(
    ("text", "code", "first"),
    [
        (V2 + 'peak = "6 MiB"\n', 0, "# budgets: 1 within"),
        (V2 + 'peak = "5 MiB"\nweights = "14 MiB"\n', 1, "# budgets: 1 broken, 1 within"),
        (V2 + '[model.b]\nsource = "b.onnx"\npeak = "1 MiB"\n', 2, "# budgets: 1 not answered"),
        (
            V2 + 'peak = "5 MiB"\n[model.b]\nsource = "b.onnx"\npeak = "1 MiB"\n',
            1,
            "# budgets: 1 broken, 1 not answered",
        ),
    ],
)
def test_exit_codes(check, text, code, first):
    done, out, err = check(text)
    assert (done, out.splitlines()[0], err) == (code, first, "")


def test_what_is_wrong_with_the_file_is_one_line_and_2(check, run):
    code, out, err = check(V2 + 'peek = "5 MiB"\n')
    assert (code, out) == (2, "")
    assert err == (
        "peakmem: error: peakmem.toml, line 3: 'peek' is no option and no budget of a model (expected 'peak'?). "
        "Try: peak = …\n"
    )
    Path("peakmem.toml").unlink()
    code, out, err = run("check")
    assert (code, out) == (2, "")
    assert "there is no peakmem.toml and no pyproject.toml with [tool.peakmem]" in err
    code, _, err = run("check", "--config", "gone.toml")
    assert (code, "gone.toml is no file" in err) == (2, True)
    code, _, err = check(V2 + 'peak = "5 MiB"\n', "--only", "v3")
    assert (code, "'v3' is no model (expected 'v2'?)" in err) == (2, True)


def commands(out: str) -> list[tuple[dict[str, str], str]]:
    """What the runner of GitHub Actions takes from the output: (properties, message) of each `::error`.

    As it parses them: nothing between `::stop-commands::TOKEN` and `::TOKEN::`, values unescaped after splitting.
    """
    found, token = [], ""
    for line in out.splitlines():
        if token:
            token = "" if line == f"::{token}::" else token
            continue
        if stop := re.match(r"::stop-commands::(.+)$", line):
            token = stop[1]
        elif match := re.match(r"::error ((?:[^:]|:(?!:))*)::(.*)$", line):
            pairs = (pair.split("=", 1) for pair in match[1].split(","))
            found.append(({name: plain(value, every=True) for name, value in pairs}, plain(match[2], every=False)))
    return found


def plain(text: str, *, every: bool) -> str:
    for sign, written in (("\r", "%0D"), ("\n", "%0A"), *(((":", "%3A"), (",", "%2C")) if every else ()), ("%", "%25")):
        text = text.replace(written, sign)
    return text


def test_annotations_are_escaped_and_stand_at_the_budget(check):
    code, out, _ = check('[model."a, b: 50 %"]\nsource = "mobilenet_v2"\n\npeak = "5 MiB"\n', "--format", "github")
    ((place, message),) = commands(out)
    assert code == 1
    assert place == {"file": "peakmem.toml", "line": "4", "title": "a, b: 50 %: peak over its budget by 14.8%"}
    assert message.splitlines()[1] == "the peak is at features.2/depthwise (Conv+BatchNormalization+Clip), alive there:"
    assert "(+14.8%)" in message.splitlines()[0]


def test_at_most_ten_annotations_the_worst_first(check):
    text = "".join(f'[model.m{n}]\nsource = "mobilenet_v2"\nbatch = {n}\npeak = "{n} MiB"\n' for n in range(1, 5))
    text += "".join(f'[model.w{n}]\nsource = "mobilenet_v2"\nbatch = {n}\nweights = "{n} MB"\n' for n in range(1, 10))
    _, out, _ = check(text, "--format", "github")
    found = commands(out)
    assert len(found) == 10
    shares = [float(re.search(r"by ([\d.]+)%", place["title"])[1]) for place, _ in found]
    assert shares == sorted(shares, reverse=True)
    assert found[0][0]["title"].startswith("w1: weights over its budget by 1315.6%")  # 14,156,216 of 1,000,000
    assert out.splitlines()[-1] == "3 more have no annotation: GitHub shows ten of a step"


def test_a_name_from_a_model_is_no_command(check, tmp_path):
    """Names of operators are printed; one that looks like a command must reach nobody."""
    pytest.importorskip("onnx")
    from peakmem import GraphBuilder
    from peakmem.zoo.export import export_onnx

    made = GraphBuilder("net")
    made_of = made.conv(made.input("x", (1, 4, 8, 8)), 8, kernel=1, name="::error title=evil::\nboo")
    export_onnx(made.finish(made_of), tmp_path / "net.onnx")
    _, out, _ = check('[model.a]\nsource = "net.onnx"\npeak = "1 KiB"\n', "--format", "github")
    assert [place["title"] for place, _ in commands(out)] == ["a: peak over its budget by 200.0%"]


def test_in_github_actions_it_happens_by_itself(check, tmp_path, monkeypatch):
    sub = tmp_path / "sub"
    sub.mkdir()
    (sub / "peakmem.toml").write_text(V2 + 'peak = "5 MiB"\n')
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_WORKSPACE", str(tmp_path))
    summary = tmp_path / "summary.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    code, out, _ = check(V2 + 'peak = "6 MiB"\n', "--config", "sub/peakmem.toml")
    assert code == 1
    assert [place["file"] for place, _ in commands(out)] == ["sub/peakmem.toml"]
    assert summary.read_text().startswith("before\n## peakmem: budgets: 1 broken\n")
    code, out, _ = check(V2 + 'peak = "6 MiB"\n', "--no-summary", "--format", "text")
    assert (code, commands(out), summary.read_text().count("## ")) == (0, [], 1)


def test_a_fault_of_the_file_is_annotated_too(check, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    code, out, err = check(V2 + 'peak = "5 M"\n')
    ((place, message),) = commands(out)
    assert (code, place["file"], place["line"]) == (2, "peakmem.toml", "3")
    assert message in err


def test_a_summary_has_at_most_a_mebibyte(check, tmp_path, monkeypatch):
    summary = tmp_path / "summary.md"
    summary.write_text("x" * (1 << 20))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    check(V2 + 'peak = "5 MiB"\n', "--summary")
    assert summary.stat().st_size == 1 << 20
    summary.write_text("x" * ((1 << 20) - 300))
    check(V2 + 'peak = "5 MiB"\n', "--summary")
    assert (1 << 20) - 300 < summary.stat().st_size <= 1 << 20
    assert "Cut here" in summary.read_text()[-120:]


def test_a_summary_that_nobody_asked_for(check):
    code, _, err = check(V2 + 'peak = "5 MiB"\n', "--summary")
    assert (code, "GITHUB_STEP_SUMMARY names no file" in err) == (2, True)


def test_names_are_no_markdown(check, tmp_path, monkeypatch):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s.md"))
    check('[model."a|b <img src=x> [c](d) `e`"]\nsource = "mobilenet_v2"\npeak = "5 MiB"\n', "--summary")
    text = (tmp_path / "s.md").read_text()
    row = next(line for line in text.splitlines() if line.startswith("| broken"))
    assert len(re.findall(r"(?<!\\)\|", row)) == 9
    assert not re.search(r"(?<!\\)[<\[`]", text.replace("try `", ""))


def test_junit_has_what_the_schema_asks_for(check, tmp_path):
    """Element by element what windyroad/JUnit-Schema's JUnit.xsd requires, in its order."""
    text = (
        'baseline = "b.json"\n' + V2 + 'peak = "5 MiB"\nweights = "14 MiB"\ngrowth = "1 %"\n'
        '[model."ctl\\u0007&<>\\""]\nsource = "b.onnx"\npeak = "1 MiB"\n'
    )
    code, _, err = check(text, "--write", "junit=out.xml")
    assert code == 2, err
    # a control character in a name is refused
    assert "a model cannot be called" in err
    check(text.replace("\\u0007", ""), "--write", "junit=out.xml,json=out.json")
    root = ElementTree.parse(tmp_path / "out.xml").getroot()
    assert root.tag == "testsuites"
    for number, suite in enumerate(root):
        assert {"name", "package", "id", "timestamp", "hostname", "tests", "failures", "errors", "time"} == set(
            suite.attrib
        )
        assert suite.get("id") == str(number)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", suite.get("timestamp", ""))
        tags = [child.tag for child in suite]
        cases = [child for child in suite if child.tag == "testcase"]
        assert tags == ["properties", *["testcase"] * len(cases), "system-out", "system-err"]
        for case in cases:
            assert set(case.attrib) == {"name", "classname", "time"}
            assert [child.tag for child in case] in ([], ["failure"], ["error"])
            assert all(set(child.attrib) == {"message", "type"} for child in case)
        assert int(suite.get("tests", "")) == len(cases)
        assert int(suite.get("failures", "")) == sum(child.tag == "failure" for case in cases for child in case)
        assert int(suite.get("errors", "")) == sum(child.tag == "error" for case in cases for child in case)
    assert [(suite.get("name"), suite.get("failures"), suite.get("errors")) for suite in root] == [
        ("v2", "1", "1"), ('ctl&<>"', "0", "1"),
    ]  # fmt: skip
    data = json.loads((tmp_path / "out.json").read_text())
    assert (data["schema"], data["broken"], data["unanswered"], data["within"]) == ("peakmem.check/1", 1, 2, 1)


def test_what_xml_cannot_hold_is_replaced():
    from peakmem.render.junit import clean

    assert clean("a\x00b\x1bc\ud800d\ufffee\tf\n\U0001f600") == "a�b�c�d�e\tf\n\U0001f600"


def test_reports_are_written_again_and_other_files_are_not(check, tmp_path):
    text = V2 + 'peak = "6 MiB"\n'
    targets = "junit=a.xml,json=a.json,md=a.md,tsv=a.tsv"
    for _ in range(2):
        assert check(text, "--write", targets)[0] == 0
    (tmp_path / "mine.md").write_text("# mine\n")
    code, _, err = check(text, "--write", "md=mine.md")
    assert (code, "the file exists" in err, (tmp_path / "mine.md").read_text()) == (2, True, "# mine\n")
    assert check(text, "--write", "md=mine.md", "--force")[0] == 0
    assert check(text, "--write", "pdf=a.pdf")[0] == 2
    assert "Try: --format json" in check(text, "--write", "json=-")[2]


def test_json_and_junit_on_standard_output(check):
    text = V2 + 'peak = "5 MiB"\n'
    code, out, _ = check(text, "--format", "json")
    assert (code, json.loads(out)["outcome"]) == (1, "broken")
    code, out, _ = check(text, "--format", "junit")
    assert (code, ElementTree.fromstring(out)[0].get("failures")) == (1, "1")


def test_the_baseline_is_written_only_when_asked_for(check, tmp_path):
    text = 'baseline = "b.json"\n' + V2 + 'growth = "1 %"\n'
    code, out, _ = check(text)
    assert (code, (tmp_path / "b.json").exists()) == (2, False)
    assert "# Next\npeakmem check --update-baseline" in out
    code, out, _ = check(text, "--update-baseline")
    assert code == 0
    assert "v2\tpeak\tnone\t5.74 MiB" in out
    code, out, _ = check(text)
    assert (code, out.splitlines()[0]) == (0, "# budgets: 4 within")
    code, out, _ = check(text.replace("mobilenet_v2", "mobilenet_v2:width=1.4"))
    assert code == 2  # another source


def test_files_as_pre_commit_gives_them(check, tmp_path):
    (tmp_path / "a.onnx").write_bytes(b"\x08\xff")
    (tmp_path / "b.onnx").write_bytes(b"\x08\xff")
    text = "".join(f'[model.{name}]\nsource = "{name}.onnx"\npeak = "1 MiB"\n' for name in "ab")
    code, out, _ = check(text, "README.md")
    assert (code, "no model is made of these files" in out) == (0, True)
    code, out, _ = check(text, "README.md", "b.onnx")
    assert (code, out.splitlines()[0], out.splitlines()[1]) == (2, "# budgets: 1 not answered", "peakmem.toml: 1 model")
    assert check(text, "peakmem.toml")[1].splitlines()[0] == "# budgets: 2 not answered"


def test_the_hook_runs_on_what_was_changed(tmp_path):
    """`.pre-commit-hooks.yaml` read, its pattern put on what git says is staged, its entry run on that."""
    yaml = pytest.importorskip("yaml")
    pytest.importorskip("onnx")
    from peakmem import GraphBuilder
    from peakmem.zoo.export import export_onnx

    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"))
    assert (hook["id"], hook["language"], hook["require_serial"]) == ("peakmem-check", "python", True)

    def git(*arguments: str) -> str:
        command = ("git", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "core.hooksPath=/dev/null", *arguments)
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    def write(width: int) -> None:
        made = GraphBuilder("net")
        x = made.conv(made.input("x", (1, 4, 8, 8)), width, kernel=1)
        export_onnx(made.finish(x), tmp_path / "net.onnx", force=True)

    def commit() -> int:
        """The exit code that pre-commit would see."""
        git("add", "-A")
        staged = [one for one in git("diff", "--cached", "--name-only").splitlines() if re.search(hook["files"], one)]
        code = 0
        if staged:
            words = [sys.executable, "-m", *shlex.split(hook["entry"]), *staged]
            code = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False).returncode
        git("commit", "-q", "--allow-empty", "-m", "m")
        return code

    git("init", "-q")
    write(8)
    (tmp_path / "peakmem.toml").write_text('[model.net]\nsource = "net.onnx"\npeak = "3 KiB"\n')
    assert commit() == 0
    write(9)
    assert commit() == 1
    (tmp_path / "README.md").write_text("nothing of a model\n")
    assert commit() == 0
    (tmp_path / "peakmem.toml").write_text('[model.net]\nsource = "net.onnx"\npeak = "4 KiB"\n')
    assert commit() == 0


def test_the_workflow_s_steps_and_the_demonstration(tmp_path):
    """The lines of docs/guides/peakmem.yml, run as they stand in a repository whose model grows by 5 %."""
    pytest.importorskip("yaml")
    pytest.importorskip("onnx")
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        import ci_demo
    finally:
        sys.path.pop(0)
    told = ci_demo.demonstrate(tmp_path)
    assert [one.code for one in (*told.before, *told.after)] == [0, 1]
    small, large = told.weights
    assert (small, large) == (4 * 9 * 40 * 13, 4 * 9 * 42 * 13)
    assert large * 100 == small * 105
    found = commands(told.after[0].output)
    assert {place["file"] for place, _ in found} == {"peakmem.toml"}
    grown = next((place, message) for place, message in found if "weights grew" in place["title"])
    assert grown[0] == {"file": "peakmem.toml", "line": "7", "title": "keyword: weights grew +5.0%, 2 % allowed"}
    assert "second (Conv+Relu, grown): weights +864 B" in grown[1]  # 4 bytes, 3x3, 2 channels more, to 12
    assert "| broken | keyword | weights |" in told.summary
    assert ElementTree.fromstring(told.junit)[0].get("failures") == "6"
    guide = (ROOT / "docs" / "guides" / "ci.md").read_text("utf-8")
    block = guide.partition("among others:")[2].split("```")[1].splitlines()[1:]
    printed = "\n".join(ci_demo.told_lines(told))
    assert [line for line in block if line not in printed.splitlines()] == []


def test_the_workflow_is_one():
    yaml = pytest.importorskip("yaml")
    flow = yaml.safe_load((ROOT / "docs" / "guides" / "peakmem.yml").read_text("utf-8"))
    steps = flow["jobs"]["budgets"]["steps"]
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert [step["run"] for step in steps if step.get("name") == "Install"] == ["pip install 'peakmem[onnx]'"]


def test_the_guide_names_every_key():
    from peakmem.budgets.words import OPTIONS, QUANTITIES, TOP

    text = (ROOT / "docs" / "guides" / "ci.md").read_text("utf-8")
    assert [name for name in (*OPTIONS, *QUANTITIES, *TOP) if not re.search(rf"\b{name}\b", text)] == []


@pytest.mark.parametrize("name", ["peakmem.toml", "model.onnx", "base.json", "labels.txt"])
def test_what_is_read_is_never_written_over(check, tmp_path, name):
    text = 'baseline = "base.json"\n[model.a]\nsource = "model.onnx"\nfiles = ["labels.txt"]\nfile_size = "1 MiB"\n'
    for one in ("model.onnx", "base.json", "labels.txt"):
        (tmp_path / one).write_bytes(b"kept")
    code, _, err = check(text, "--write", f"json={name}", "--force")
    assert (code, "never written over" in err) == (2, True)
    assert (tmp_path / name).read_bytes() in (b"kept", text.encode())


def test_one_file_for_two_reports(check):
    code, _, err = check(V2 + 'peak = "6 MiB"\n', "--write", "md=x.md,tsv=x.md")
    assert (code, "written twice" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "typed"),
    [
        ('engine = "tflmm"\npeak = "1 MiB"\n', 'Try: engine = "tflm"'),
        ('train = { optimizer = "adamm" }\nstep_peak = "1 GiB"\n', 'Try: optimizer = "adam"'),
        ("fits = []\n", 'Try: fits = "stm32f746"'),
        ('fits = "nothing like it"\n', "Try: peakmem devices"),
    ],
)
def test_a_wrong_value_is_answered_with_a_line_to_type(check, text, typed):
    code, _, err = check(V2 + text)
    assert code == 2
    assert typed in err


@pytest.mark.parametrize("text", ["a" + ".b" * 100_000 + " = 1\n", "[" + "'a'.\"b\" . " * 50_000 + "c]\n"])
def test_a_key_of_very_many_parts(check, text):
    """tomllib takes the square of the parts: minutes here."""
    code, _, err = check(text)
    assert (code, "line 1: nested too deeply" in err) == (2, True)
