"""Signal of an MRI sequence from T1, T2 and proton density."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray

Signal = NDArray[np.floating]


def spin_echo(t1_ms: ArrayLike, t2_ms: ArrayLike, proton_density: ArrayLike, *, tr_ms: float, te_ms: float) -> Signal:
    """Signal of a (turbo) spin echo with a 90 degree excitation.

    Source: Bernstein, King, Zhou 2004, "Handbook of MRI Pulse Sequences", section 14.3, for TE << TR.

    Args:
        t1_ms: longitudinal relaxation time, any shape, > 0 ms.
        t2_ms: transverse relaxation time, shape that broadcasts with `t1_ms`, > 0 ms.
        proton_density: relative to water, shape that broadcasts, >= 0.
        tr_ms: repetition time, > 0 ms.
        te_ms: (effective) echo time, >= 0 ms.

    Returns:
        Magnitude of the transverse magnetization, in units of the proton density of water.
    """
    t1_ms, t2_ms = _relaxation_times(t1_ms, t2_ms)
    return np.asarray(proton_density) * (1 - np.exp(-tr_ms / t1_ms)) * np.exp(-te_ms / t2_ms)


def spoiled_gradient_echo(
    t1_ms: ArrayLike, t2_ms: ArrayLike, proton_density: ArrayLike, *, tr_ms: float, te_ms: float, flip_degrees: float
) -> Signal:
    """Steady-state signal of a spoiled gradient echo (FLASH, SPGR).

    Source: Haase et al. 1986, "FLASH imaging", J Magn Reson 67:258; T2* is taken as T2, since TE is a few ms.

    Args:
        t1_ms: longitudinal relaxation time, any shape, > 0 ms.
        t2_ms: transverse relaxation time, shape that broadcasts with `t1_ms`, > 0 ms.
        proton_density: relative to water, shape that broadcasts, >= 0.
        tr_ms: repetition time, > 0 ms.
        te_ms: echo time, >= 0 ms.
        flip_degrees: flip angle, in degrees.

    Returns:
        Magnitude of the transverse magnetization, in units of the proton density of water.
    """
    t1_ms, t2_ms = _relaxation_times(t1_ms, t2_ms)
    flip, recovery = np.deg2rad(flip_degrees), np.exp(-tr_ms / t1_ms)
    steady_state = np.sin(flip) * (1 - recovery) / (1 - np.cos(flip) * recovery)
    return np.asarray(proton_density) * steady_state * np.exp(-te_ms / t2_ms)


def inversion_recovery(
    t1_ms: ArrayLike, t2_ms: ArrayLike, proton_density: ArrayLike, *, tr_ms: float, te_ms: float, ti_ms: float
) -> Signal:
    """Magnitude signal of an inversion-recovery spin echo (FLAIR when `ti_ms` nulls CSF).

    Source: Bernstein, King, Zhou 2004, "Handbook of MRI Pulse Sequences", section 14.2, for TE << TR.

    Args:
        t1_ms: longitudinal relaxation time, any shape, > 0 ms.
        t2_ms: transverse relaxation time, shape that broadcasts with `t1_ms`, > 0 ms.
        proton_density: relative to water, shape that broadcasts, >= 0.
        tr_ms: repetition time, > 0 ms.
        te_ms: (effective) echo time, >= 0 ms.
        ti_ms: inversion time, >= 0 ms.

    Returns:
        Magnitude of the transverse magnetization, in units of the proton density of water; >= 0.
    """
    t1_ms, t2_ms = _relaxation_times(t1_ms, t2_ms)
    longitudinal = 1 - 2 * np.exp(-ti_ms / t1_ms) + np.exp(-tr_ms / t1_ms)
    return np.asarray(proton_density) * np.abs(longitudinal) * np.exp(-te_ms / t2_ms)


SEQUENCES: dict[str, Callable[..., Signal]] = {
    "spin_echo": spin_echo,
    "spoiled_gradient_echo": spoiled_gradient_echo,
    "inversion_recovery": inversion_recovery,
}


def null_inversion_time(t1_ms: float, tr_ms: float) -> float:
    """Inversion time at which a tissue gives no signal in `inversion_recovery`.

    Args:
        t1_ms: longitudinal relaxation time of the tissue to null, > 0 ms.
        tr_ms: repetition time, > 0 ms.

    Returns:
        TI in ms.
    """
    return float(t1_ms * np.log(2 / (1 + np.exp(-tr_ms / t1_ms))))


def relaxation_with_contrast_agent(time_ms: ArrayLike, concentration_mmol: ArrayLike, relaxivity: float) -> Signal:
    """Relaxation time of a tissue that has taken up a gadolinium contrast agent.

    Source: 1/T = 1/T_0 + r C (Rohrer et al. 2005, Invest Radiol 40:715, eq. 1).

    Args:
        time_ms: T1 or T2 without the agent, any shape, > 0 ms.
        concentration_mmol: agent in the tissue, shape that broadcasts, >= 0 mmol/l.
        relaxivity: r1 or r2 of the agent, l / (mmol s).

    Returns:
        T1 or T2 with the agent, ms.
    """
    return 1 / (1 / np.asarray(time_ms) + np.asarray(concentration_mmol) * relaxivity / 1000)


def rician_magnitude(signal: Signal, noise_std: float, rng: np.random.Generator) -> Signal:
    """Magnitude of a real signal with complex Gaussian noise of equal parts.

    Source: Gudbjartsson and Patz 1995, "The Rician distribution of noisy MRI data", eq. 1.

    Args:
        signal: noise-free magnitude, any shape, >= 0.
        noise_std: standard deviation of either part, in the unit of `signal`, >= 0.
        rng: source of randomness.

    Returns:
        Noisy magnitude, same shape, float32, >= 0.
    """
    real = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(noise_std) + signal
    imaginary = rng.standard_normal(signal.shape, dtype=np.float32) * np.float32(noise_std)
    return np.hypot(real, imaginary)


def _relaxation_times(t1_ms: ArrayLike, t2_ms: ArrayLike) -> tuple[Signal, Signal]:
    t1, t2 = np.asarray(t1_ms), np.asarray(t2_ms)
    for name, value in (("t1_ms", t1), ("t2_ms", t2)):
        if not (value > 0).all():
            raise ValueError(f"{name} must be > 0 everywhere, got {value.min()!r}; give relaxation times in ms")
    return t1, t2
