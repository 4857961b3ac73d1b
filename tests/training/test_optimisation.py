import pytest

from jcs_ct.training.optimisation import cosine_lr, learning_rate, poly_lr, step_lr
from jcs_ct.training.recipe import OptimiserConfig


def test_poly_is_the_papers():
    assert poly_lr(2.5e-5, 0, 21_000) == pytest.approx(2.5e-5)
    assert poly_lr(2.5e-5, 10_500, 21_000) == pytest.approx(2.5e-5 * 0.5**0.9)
    assert poly_lr(2.5e-5, 21_000, 21_000) == 0.0


def test_steps_divide_by_ten_every_thirty_of_a_hundred_epochs():
    rates = [step_lr(0.1, epoch, 100) for epoch in (0, 29, 30, 59, 60, 89, 90, 99)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001, 0.001, 0.0001, 0.0001])


def test_cosine_ends_at_zero():
    assert cosine_lr(1.0, 0, 10) == 1.0
    assert cosine_lr(1.0, 5, 10) == pytest.approx(0.5)
    assert cosine_lr(1.0, 10, 10) == pytest.approx(0.0)


def test_warm_up_starts_at_a_tenth():
    config = OptimiserConfig(learning_rate=1.0, schedule="cosine", warmup_steps=100)
    assert learning_rate(config, 0, 10_000) == pytest.approx(0.1)
    assert learning_rate(config, 50, 10_000) == pytest.approx(0.55, abs=1e-3)
    assert learning_rate(config, 100, 10_000) == pytest.approx(cosine_lr(1.0, 100, 10_000))
