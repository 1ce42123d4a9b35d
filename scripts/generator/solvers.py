"""Solvers of the library diffusers behind the interface of MONAI's schedulers, and the timesteps of few steps."""

from __future__ import annotations

import copy
import importlib
import inspect
from typing import Any

import numpy as np
import torch
from monai.networks.schedulers import Scheduler
from torch import Tensor

from scripts.generator.parametrization import (
    clipped_prediction,
    noise_of,
    parametrization_of,
    signal_and_noise_scales,
)

# Sampler -> class of diffusers. Both are of second order as they come.
SOLVERS = {"dpm_solver": "DPMSolverMultistepScheduler", "unipc": "UniPCMultistepScheduler"}
MIN_STEPS = 2  # a solver of second order looks back one step


class DiffusersScheduler(Scheduler):
    """A deterministic `diffusers` scheduler for MONAI's inferer and `scripts.generator.samplers.sample_images`.

    Solvers of several steps remember the steps before. Whenever a trajectory starts, a fresh copy of the solver takes
    over, so that no batch knows of another.

    Solvers that work on x_t / sqrt(abar_t) (Heun, Euler: their `init_noise_sigma` is not 1) are given that, and their
    steps are scaled back. Whatever the network predicts, the solver is given the noise (of a flow: epsilon - x_0) that
    belongs to the estimate of x_0, clipped if the noise scheduler clips.

    Args:
        scheduler: noise scheduler of the training, whose noise levels and clipping are taken over.
        solver: scheduler of diffusers with the same noise levels, predicting epsilon, or a flow if `scheduler` is one.
        num_inference_steps: number of steps; solvers of the Heun type call the network about twice per step.
        even_log_snr: place the timesteps evenly in log signal-to-noise (`even_log_snr_timesteps`), not as the solver
            places them. At 20 steps the standard deviation of a Gaussian is then within 1.5 % instead of 5 % (std 0.5)
            or 50 % (std 0.1).

    Raises:
        ValueError: if the solver's timesteps are no integers, which the network was not trained on.
    """

    def __init__(self, scheduler: Scheduler, solver: Any, num_inference_steps: int, even_log_snr: bool = True) -> None:
        super().__init__(scheduler.num_train_timesteps)
        self.noise_scheduler = scheduler
        self.is_flow = parametrization_of(scheduler) == "flow"
        self.solver = solver
        self.even_log_snr = even_log_snr
        self.set_timesteps(num_inference_steps)

    def set_timesteps(self, num_inference_steps: int, device: torch.device | str | None = None) -> None:
        """Place the timesteps, from high to low, and forget any trajectory under way.

        Args:
            num_inference_steps: number of steps.
            device: where `self.timesteps` lie; the solver's own stay on the CPU.
        """
        if self.even_log_snr:
            self._place_timesteps(even_log_snr_timesteps(self.noise_scheduler, num_inference_steps))
        else:
            self.solver.set_timesteps(num_inference_steps)
        if not torch.equal(self.solver.timesteps, self.solver.timesteps.round()):
            raise ValueError(
                f"timesteps of {type(self.solver).__name__} must be integers, got {self.solver.timesteps[:3].tolist()}"
                "...; set even_log_snr, or timestep_spacing='trailing' in the solver"
            )
        self.num_inference_steps = num_inference_steps
        self.timesteps = self.solver.timesteps.long().to(device)
        self._places = self.timesteps.tolist()
        self._running: Any = None
        self._position = 0

    def step(self, model_output: Tensor, timestep: int, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Step from `timestep` to the next one of `self.timesteps`.

        Args:
            model_output: network output at `timestep`, shape (B, C, *spatial), float32.
            timestep: the next one of the trajectory; the first of `self.timesteps` starts a new one.
            sample: x_t, same shape.

        Returns:
            x at the next timestep, and the estimate of x_0 from `model_output`, clipped if the scheduler clips.

        Raises:
            ValueError: if `timestep` is not the next one.
        """
        position = self._advance(int(timestep))
        # Autocast would form the solver's sums of earlier outputs in bf16.
        with torch.autocast(sample.device.type, enabled=False):
            original = clipped_prediction(self.noise_scheduler, model_output, timestep, sample).original_samples
            timesteps = torch.full((len(sample),), int(timestep), device=sample.device)
            noise = noise_of(self.noise_scheduler, original, timesteps, sample)
            before, after = self._scales(position)
            place = self._running.timesteps[position]
            output = noise - original if self.is_flow else noise
            stepped = self._running.step(output, place, sample * before, return_dict=False)[0] / after
        return stepped, original

    def _place_timesteps(self, timesteps: Tensor) -> None:
        if "timesteps" in inspect.signature(self.solver.set_timesteps).parameters and not self.is_flow:
            self.solver.set_timesteps(timesteps=timesteps.tolist())
            return
        # UniPC, and any solver of a flow, takes none of ours: they are put in place of those that it has set.
        self.solver.set_timesteps(len(timesteps))
        self.solver.timesteps = timesteps
        # diffusers' sigma of a flow is its noise; elsewhere it is noise to signal.
        ratios = noise_to_signal_ratio(self.noise_scheduler)[timesteps]
        sigmas = timesteps / self.num_train_timesteps if self.is_flow else ratios
        self.solver.sigmas = torch.cat([sigmas, torch.zeros(1)])

    def _advance(self, timestep: int) -> int:
        if timestep == self._places[0]:
            self._running, self._position = copy.deepcopy(self.solver), 0
        elif self._running is None or self._places[self._position : self._position + 1] != [timestep]:
            raise ValueError(
                f"timestep must be the next one of a trajectory that starts at {self._places[0]}, got {timestep};"
                f" {type(self.solver).__name__} builds on the steps before"
            )
        self._position += 1
        return self._position - 1

    def _scales(self, position: int) -> tuple[float, float]:
        if float(self.solver.init_noise_sigma) == 1:
            return 1.0, 1.0
        before, after = (1 + self.solver.sigmas[position : position + 2].double() ** 2).sqrt().tolist()
        return before, after


def multistep_scheduler(scheduler: Scheduler, sampler: str, num_inference_steps: int) -> DiffusersScheduler:
    """Build DPM-Solver++(2M) or UniPC from the noise scheduler of a training.

    Sources: Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models",
    algorithm 2; Zhao et al. 2023, "UniPC: A Unified Predictor-Corrector Framework for Fast Sampling of Diffusion
    Models", algorithms 1 and 2, B(h) = e^h - 1, order 2.

    Args:
        scheduler: noise scheduler that the network was trained with.
        sampler: "dpm_solver" or "unipc".
        num_inference_steps: number of network calls per image, from 2 to T.

    Raises:
        ValueError: if the number of steps is out of range.
    """
    all_steps = scheduler.num_train_timesteps
    if not MIN_STEPS <= num_inference_steps <= all_steps:
        raise ValueError(
            f"num_inference_steps must be from {MIN_STEPS} to {all_steps} for sampler {sampler!r},"
            f" got {num_inference_steps!r}; 20 is a good start"
        )
    # Here, because importing diffusers takes seconds that other samplers need not wait.
    solver_class = getattr(importlib.import_module("diffusers"), SOLVERS[sampler])
    if parametrization_of(scheduler) == "flow":
        solver = solver_class(all_steps, use_flow_sigmas=True, prediction_type="flow_prediction")
    else:
        solver = solver_class(all_steps, trained_betas=scheduler.betas.tolist(), prediction_type="epsilon")
    return DiffusersScheduler(scheduler, solver, num_inference_steps)


def even_log_snr_timesteps(scheduler: Scheduler, num_inference_steps: int) -> Tensor:
    """Place timesteps evenly in log(alpha_t / sigma_t), from the last one to the first, each an integer of its own.

    Source: Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in Around 10
    Steps", section 3.4 (uniform logSNR). Where two would fall on one integer, near the first, the higher moves up.

    Args:
        scheduler: noise scheduler.
        num_inference_steps: N, 1 to the number of timesteps with noise: T, or T - 1 for a flow, which has none at 0.

    Returns:
        Integers, shape (N,), strictly decreasing from T - 1 to the first with noise; of one step, T - 1.

    Raises:
        ValueError: if there are fewer timesteps with noise.
    """
    noise_to_signal = noise_to_signal_ratio(scheduler)
    first = int((noise_to_signal == 0).sum())
    log_snr = (-noise_to_signal[first:].log()).double().numpy()[::-1]  # rising, from T - 1 to the first
    last, count = len(log_snr) - 1, num_inference_steps
    if count > len(log_snr):
        raise ValueError(
            f"num_inference_steps must be at most {len(log_snr)}, the timesteps with noise, got {num_inference_steps!r}"
        )
    even = np.linspace(log_snr[0], log_snr[-1], count)[::-1]  # falling: timesteps rise
    timesteps = np.interp(even, log_snr, np.arange(last, -1, -1)).round().astype(np.int64)
    ranks = np.arange(count)
    timesteps = np.maximum.accumulate(timesteps - ranks) + ranks
    timesteps = np.minimum(timesteps, last - count + 1 + ranks)
    return torch.from_numpy(timesteps[::-1] + first)


def noise_to_signal_ratio(scheduler: Scheduler) -> Tensor:
    """Return sigma_t / alpha_t of every timestep, shape (T,), on the CPU."""
    alpha, sigma = signal_and_noise_scales(scheduler, torch.arange(scheduler.num_train_timesteps))
    return sigma / alpha
