"""The environment check prints OK or FAIL, and a FAIL says what to do."""

from dlrm_mini import environment


def test_this_environment_is_right_and_versions_are_shown_on_request():
    lines = environment.check()
    assert all(line.ok for line in lines), environment.report(lines)
    short, long = environment.report(lines), environment.report(lines, versions=True)
    assert "2.13.0" not in short and "2.13.0" in long
    assert [text.split()[0] for text in short.splitlines()] == ["OK"] * len(lines)


def test_a_missing_and_an_old_package_fail_with_advice(monkeypatch):
    have = {"torch": "1.9.0", "numpy": None}
    real = environment.installed
    monkeypatch.setattr(environment, "installed", lambda name: have.get(name, real(name)))
    text = environment.report(environment.check())
    assert "FAIL  torch        found 1.9.0, expected >=2.8,<2.14: pip install" in text
    assert "FAIL  numpy        found nothing" in text
