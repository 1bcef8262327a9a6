"""What tests need, read from their source; times and sizes as people write them."""

from __future__ import annotations

import pytest

from greenline.ci.sharding.durations import Known
from greenline.ci.sharding.needs import NOTHING, Needs, both, bytes_of, seconds_of
from greenline.ci.sharding.settings import Rule
from greenline.ci.sharding.units import Unit, make_units, quantile

SOURCE = """
import pytest, torch
from unittest import skipUnless

COUNT = 4
four = pytest.mark.gpu(COUNT, kind=["a100", "h100"])
if True:
    @four
    def test_behind_a_name(): ...

@pytest.mark.gpu
class TestWhole:
    def test_one(self): ...
    @pytest.mark.gpu(2)
    def test_two(self): ...

class TestInherits(TestWhole):
    def test_own(self): ...

@pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.gpu(memory="2GiB"))])
def test_on_a_parameter_set(n): ...

@skipUnless(torch.cuda.is_available(), "no GPU")
def test_mentions(): ...

@pytest.mark.gpu(count=len("x"))
def test_not_a_literal(): ...

@pytest.mark.lock("db")
@pytest.mark.lock("port", scope="runner")
@pytest.mark.exclusive
@pytest.mark.isolated
@pytest.mark.cpu(2, memory="4GiB")
def test_other(): ...

def test_nothing(): ...
"""
RULES = (
    Rule((), (), ("torch.cuda.is_available",), NOTHING._replace(gpus=1.0)),
    Rule(("other/**",), (), (), NOTHING._replace(gpus=8.0)),
)


def units(*names: str, source: str = SOURCE) -> dict[str, Unit]:
    tests = dict.fromkeys([f"test_x.py::{name}" for name in names], "")
    known = Known(dict.fromkeys(tests, 1.0), {}, {}, {}, {})
    made = make_units(tests, known, RULES, lambda path: source.encode())
    return {unit.tests[0].partition("::")[2]: unit for unit in made.units}


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("test_behind_a_name", Needs(gpus=4.0, gpu_kinds=("a100", "h100"))),
        ("TestWhole::test_one", Needs(gpus=1.0)),
        ("TestWhole::test_two", Needs(gpus=2.0)),
        ("TestInherits::test_own", Needs(gpus=1.0)),
        ("test_on_a_parameter_set[1]", Needs(gpu_memory=2**31)),
        ("test_mentions", Needs(gpus=1.0)),
        ("test_not_a_literal", Needs(gpus=1.0)),
        (
            "test_other",
            Needs(slots=2, memory=2**32, locks=("db", "runner/port"), exclusive=True, isolated=True),
        ),
        ("test_nothing", NOTHING),
        ("test_nothing[gpu::[x]]", NOTHING),
    ],
)
def test_needs_of_markers(name: str, needs: Needs) -> None:
    assert units(name)[name].needs == needs


def test_module_marks_hold_for_all_of_it() -> None:
    source = "import pytest\npytestmark = [pytest.mark.gpu(0.5), pytest.mark.lock('x')]\ndef test_a(): ...\n"
    assert units("test_a", source=source)["test_a"].needs == Needs(gpus=0.5, locks=("x",))


def test_groups_are_one_atom() -> None:
    source = (
        "import pytest\n@pytest.mark.xdist_group('g')\ndef test_a(): ...\n"
        "def test_b(): ...\n@pytest.mark.xdist_group(name='g')\ndef test_c(): ...\n"
    )
    made = units("test_a", "test_b", "test_c", source=source)
    assert [len(unit.tests) for unit in made.values()] == [2, 1]
    assert made["test_a"].seconds == 2.0
    assert made["test_a"].why


def test_a_file_that_does_not_parse_needs_nothing_that_can_be_told() -> None:
    assert units("test_a", source="@pytest.mark.gpu\ndef test_a(:")["test_a"].needs == NOTHING


def test_a_recorded_peak_raises_what_is_declared_and_lets_gpus_be_shared() -> None:
    test = "test_x.py::test_small"
    source = b"import pytest\n@pytest.mark.gpu\ndef test_small(): ...\n"
    known = Known({test: 1.0}, {}, {}, {}, {test: 10**9})
    whole = make_units({test: ""}, known, (), lambda path: source).units[0].needs
    shared = make_units({test: ""}, known, (), lambda path: source, share_gpus=True).units[0].needs
    assert (whole.gpus, whole.gpu_memory) == (1.0, 1_100_000_000)
    assert (shared.gpus, shared.gpu_memory) == (0.0, 1_100_000_000)


def test_both_takes_the_larger_and_all_locks() -> None:
    one = Needs(gpus=1.0, gpu_kinds=("a", "b"), locks=("x",))
    other = Needs(gpu_memory=5, gpu_kinds=("b", "c"), locks=("y",), slots=3)
    assert both(one, other) == Needs(3, 0, 1.0, 5, ("b",), 1, ("x", "y"))


def test_unknown_tests_are_taken_for_the_upper_quartile_of_what_is_alike() -> None:
    seconds = {f"a.py::test_f[{number}]": float(number) for number in range(1, 5)} | {"b.py::test_g": 50.0}
    known = Known(seconds, {}, {}, {}, {})
    tests = dict.fromkeys(["a.py::test_f[new]", "a.py::test_other", "c.py::test_h"], "")
    found = {unit.tests[0]: (unit.seconds, unit.worst) for unit in make_units(tests, known).units}
    assert found == {"a.py::test_f[new]": (3.0, 4.0), "a.py::test_other": (3.0, 4.0), "c.py::test_h": (4.0, 50.0)}


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.25, 1), (0.5, 2), (0.75, 3), (0.76, 4), (1.0, 4)])
def test_quantiles(share: float, value: float) -> None:
    assert quantile([4, 2, 1, 3], share) == value


@pytest.mark.parametrize(
    ("text", "seconds"), [("10m", 600), ("90", 90), ("1h30m", 5400), ("2.5s", 2.5), ("500ms", 0.5), ("1m 30s", 90)]
)
def test_times(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "m", "-5m", "10 years", "1h30", "1e3", "nan", "5m!"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="is no time"):
        seconds_of(text)


@pytest.mark.parametrize(("text", "size"), [("8GiB", 2**33), ("500 MB", 5 * 10**8), (1024, 1024), ("1.5Gi", 3 * 2**29)])
def test_sizes(text: object, size: int) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1", "8 apples", None])
def test_what_is_no_size(text: object) -> None:
    with pytest.raises(ValueError, match="is no size"):
        bytes_of(text)
