"""What `make mutants` breaks is in the source."""

import mutants


def test_every_mutant_is_of_a_line_that_exists():
    stale = [each.name for each in mutants.MUTANTS if mutants.is_stale(each)]
    assert not stale, "change them with the lines that they are of"


def test_survivors_are_known_mutants():
    assert set(mutants.KNOWN) <= {each.name for each in mutants.MUTANTS}
