"""In float32, 50 steps on three ranks still end at the weights of a single device."""

import pytest

from tests.parallel.cases import LONG, check, simulate


@pytest.mark.parametrize("name", LONG)
def test_ranks_train_to_the_weights_of_one_device(name):
    check(LONG[name], *simulate(LONG[name]))
