"""Signals against their closed forms and limits."""

from __future__ import annotations

import numpy as np
import pytest

from scripts.phantom.signal_equations import (
    inversion_recovery,
    null_inversion_time,
    relaxation_with_contrast_agent,
    rician_magnitude,
    spin_echo,
    spoiled_gradient_echo,
)

T1_MS, T2_MS = np.array([500.0, 1331.0, 4300.0]), np.array([70.0, 110.0, 1900.0])


def test_spin_echo_with_long_tr_and_no_te_is_proton_density():
    assert np.allclose(spin_echo(T1_MS, T2_MS, 0.8, tr_ms=1e6, te_ms=0), 0.8)


def test_spin_echo_decays_by_e_in_one_t2():
    signal = spin_echo(1000, 80, 1.0, tr_ms=1e9, te_ms=80)
    assert signal == pytest.approx(np.exp(-1))


def test_gradient_echo_at_90_degrees_is_a_spin_echo():
    gradient = spoiled_gradient_echo(T1_MS, T2_MS, 0.8, tr_ms=600, te_ms=10, flip_degrees=90)
    assert np.allclose(gradient, spin_echo(T1_MS, T2_MS, 0.8, tr_ms=600, te_ms=10))


def test_gradient_echo_is_largest_at_the_ernst_angle():
    ernst = np.rad2deg(np.arccos(np.exp(-18 / 832)))
    signals = [spoiled_gradient_echo(832, 80, 1, tr_ms=18, te_ms=3, flip_degrees=ernst + d) for d in (-1, 0, 1)]
    assert signals[1] == max(signals)


def test_inversion_recovery_nulls_the_tissue_at_its_null_time():
    ti_ms = null_inversion_time(4300, tr_ms=9000)
    assert inversion_recovery(4300, 1900, 1, tr_ms=9000, te_ms=110, ti_ms=ti_ms) == pytest.approx(0, abs=1e-12)
    assert inversion_recovery(1331, 110, 1, tr_ms=9000, te_ms=110, ti_ms=ti_ms) > 0.1


def test_contrast_agent_adds_rates():
    assert relaxation_with_contrast_agent(1000, 0.2, 5.0) == pytest.approx(1000 / 2)
    assert relaxation_with_contrast_agent(1000, 0.0, 5.0) == pytest.approx(1000)


def test_background_noise_is_rayleigh_with_its_known_mean():
    noise = rician_magnitude(np.zeros(200_000, np.float32), 2.0, np.random.default_rng(0))
    assert noise.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.01)
    assert noise.min() >= 0


def test_second_moment_of_rician_noise_is_signal_squared_plus_twice_the_variance():
    noisy = rician_magnitude(np.full(200_000, 5.0, np.float32), 2.0, np.random.default_rng(0))
    assert (noisy**2).mean() == pytest.approx(25 + 2 * 4, rel=0.01)


def test_relaxation_time_of_zero_is_refused():
    with pytest.raises(ValueError, match="t1_ms must be > 0"):
        spin_echo([500, 0], [70, 70], 1, tr_ms=500, te_ms=10)
