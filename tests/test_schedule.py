import re

import numpy as np
import pytest

from margipose import schedule as S


def test_golden_one_cycle(golden):
    g = golden("schedule")
    cases = {k.rsplit("_", 1)[0] for k in g}
    assert cases
    for case in cases:
        total, lr, momentum = re.fullmatch(r"n(\d+)_lr(.+)_m(.+)", case).groups()
        values = [S.one_cycle(s, int(total), float(lr), float(momentum)) for s in range(1, int(total) + 1)]
        rates, momenta = np.array(values).T
        np.testing.assert_allclose(rates, g[f"{case}_lr"], rtol=1e-9)
        np.testing.assert_allclose(momenta, g[f"{case}_momentum"], rtol=1e-9)


def test_steps_drop_at_the_papers_epochs():
    rates = [S.steps(s, 150, 1.0) for s in range(1, 151)]
    assert rates[79] == 1.0
    assert rates[80] == pytest.approx(0.1)
    assert rates[139] == pytest.approx(0.1)
    assert rates[140] == pytest.approx(0.01)


def test_by_name():
    for name in S.SCHEDULES:
        rate, momentum = S.learning_rate(name, 3, 10, 0.5, 0.9)
        assert 0 < rate <= 0.5
        assert 0.85 <= momentum <= 0.9
    with pytest.raises(ValueError, match="unknown schedule 'cosine'"):
        S.learning_rate("cosine", 1, 2, 0.1, 0.9)
