"""P ranks train to the weights of a single device: all forms, mixtures, rules, numbers of ranks."""

import pytest

from tests.parallel.cases import SHORT, check, simulate


@pytest.mark.parametrize("name", SHORT)
def test_ranks_train_to_the_weights_of_one_device(name):
    check(SHORT[name], *simulate(SHORT[name]))
