"""docs/reliability.md equals the fault tests' descriptions, and every case has a test or a reason."""

import ast

import pytest

from tests.faults import reliability
from tests.support.runs import ROOT


def test_every_case_has_a_test_or_a_reason():
    tested, excused = set(reliability.tests()), set(reliability.ELSEWHERE)
    assert set(reliability.TITLES) == set(range(1, 104))
    assert tested | excused == set(range(1, 104))


def test_every_test_of_a_fault_says_what_is_injected():
    silent = [name for rows in reliability.tests().values() for name, said in rows if len(said) < 30]
    assert silent == []


def test_the_page_is_what_the_tests_say():
    """python tests/faults/reliability.py writes it again; its figures are those of the last `make faults`."""
    page = reliability.PAGE.read_text(encoding="utf-8")
    assert page == "\n".join([reliability.HEAD, reliability.written_figures(), reliability.table()])


@pytest.mark.parametrize(
    ("marks", "numbers"),
    [
        ("@pytest.mark.fault(1)", [1]),
        ("@pytest.mark.slow\n@pytest.mark.fault(3, 5, 7)", [3, 5, 7]),
        ("@pytest.mark.parametrize('number', [12])", []),
        ("", []),
    ],
)
def test_the_marks_of_a_test_give_its_numbers(marks, numbers):
    test = ast.parse(f"{marks}\ndef test_f001_kill(): ...").body[0]
    assert reliability.numbers_of(test) == numbers


XML = """<testsuites><testsuite>
<testcase name="a"><properties><property name="kills" value="3 of 3 | whole"/></properties></testcase>
<testcase name="b"><failure message="no"/></testcase><testcase name="c"><error message="no"/></testcase>
<testcase name="d"><skipped message="Skipped: no strace"/></testcase>
</testsuite></testsuites>"""


def test_figures_count_what_failed_and_what_was_skipped(tmp_path):
    (tmp_path / "x.xml").write_text(XML)
    text, ran, passed, failed, reasons = reliability.results(tmp_path / "x.xml")
    assert (ran, passed, failed, reasons) == (3, 1, 2, ["1 not run: no strace"])
    assert all(said in text for said in ("3 cases, 1 passed", "1 not run: no strace.", "| kills | 3 of 3 \\| whole |"))
    assert str(ROOT) not in text
