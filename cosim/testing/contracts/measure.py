"""What every measure keeps, run over each part's examples on two records of a tiny scenario."""

from math import isnan
from typing import get_args

import pytest

from cosim.parts import make
from cosim.record.folder import Record
from cosim.runs import run
from cosim.studies.measures import Better, Measure, from_text
from cosim.testing.selection import examples_of

EXAMPLES = examples_of(Measure)


@pytest.fixture(scope="module")
def records(tiny_scenario, tmp_path_factory):
    """Return a whole run, and the same of timing alone."""
    folder, scenario = tmp_path_factory.mktemp("measure"), tiny_scenario()
    return [Record.open(run(scenario, folder / str(alone), timing_only=alone)) for alone in (False, True)]


@pytest.mark.parametrize("example", EXAMPLES)
class TestEveryMeasure:
    def test_it_is_one_number_and_the_same_at_every_call(self, example, records):
        values = [make(Measure, example).of(records[0]) for _ in range(2)]
        assert {type(value) for value in values} == {float}
        assert values[0] == values[1] or all(map(isnan, values))

    def test_it_needs_learned_values_where_it_says_so(self, example, records):
        measure = make(Measure, example)
        whole, timed = (measure.of(record) for record in records)
        if measure.learned:
            assert isnan(timed)
        else:
            assert whole == timed

    def test_it_has_a_name_and_a_direction(self, example, records):
        measure = make(Measure, example)
        assert measure.name.strip()
        assert "\n" not in measure.name + measure.unit
        assert measure.better in get_args(Better)

    def test_a_kind_alone_is_a_text(self, example, records):
        assert from_text(example["kind"]) == {"kind": example["kind"]}
