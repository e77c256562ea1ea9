"""The arithmetic of the loss, against the formulas written out."""

from __future__ import annotations

import pytest
import torch

from studio.training.workers import loss

ALPHAS = torch.cumprod(
    1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0
).float()


def test_noise_and_targets_recover_the_picture() -> None:
    """From the noisy latents and the right answer, either target gives the picture back."""
    x, e = torch.randn(3, 4, 2, 2), torch.randn(3, 4, 2, 2)
    levels = torch.tensor([0, 500, 999])
    a = ALPHAS[levels].view(-1, 1, 1, 1)
    noisy = loss.add_noise(x, e, ALPHAS, levels)
    said = loss.target("epsilon", x, e, ALPHAS, levels)
    torch.testing.assert_close((noisy - (1 - a).sqrt() * said) / a.sqrt(), x, rtol=1e-3, atol=1e-4)
    v = loss.target("v_prediction", x, e, ALPHAS, levels)
    torch.testing.assert_close(a.sqrt() * noisy - (1 - a).sqrt() * v, x, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("level", [0, 100, 400, 999])
@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_weights(level: int, gamma: float) -> None:
    levels = torch.tensor([level])
    snr = float(ALPHAS[level] / (1 - ALPHAS[level]))
    eps = float(loss.snr_weights("epsilon", ALPHAS, levels, gamma))
    v = float(loss.snr_weights("v_prediction", ALPHAS, levels, gamma))
    assert eps == pytest.approx(min(snr, gamma) / snr, rel=1e-4)
    assert v == pytest.approx(min(snr, gamma) / (snr + 1), rel=1e-4)


def test_min_snr_weighs_a_clean_picture_alike_in_both_predictions() -> None:
    """The paper's weight on the error of the picture is min(SNR, gamma), whichever way the model speaks.

    A picture error d is a noise error d sqrt(SNR), and a velocity error d sqrt(SNR + 1).
    """
    levels = torch.arange(0, 1000, 50)
    snr = ALPHAS[levels] / (1 - ALPHAS[levels])
    for prediction, factor in (("epsilon", snr), ("v_prediction", snr + 1)):
        torch.testing.assert_close(
            loss.snr_weights(prediction, ALPHAS, levels, 5.0) * factor,
            snr.clamp_max(5.0),
            rtol=1e-3,
            atol=1e-6,
        )


def test_gamma_zero_is_plain_squared_error_and_pure_noise_is_safe() -> None:
    levels = torch.tensor([3, 999])
    assert loss.snr_weights("epsilon", ALPHAS, levels, 0).tolist() == [1, 1]
    dark = torch.tensor([0.5, 0.0])
    for prediction in ("epsilon", "v_prediction"):
        assert torch.isfinite(loss.snr_weights(prediction, dark, torch.tensor([1]), 5.0)).all()


def test_levels_are_spread_and_uniform() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.stack([loss.draw_levels(8, 1000, generator) for _ in range(4000)])
    assert int(draws.min()) >= 0 and int(draws.max()) <= 999
    # every batch has one level in each eighth of the range ...
    assert ((draws.sort(dim=1).values // 125) == torch.arange(8)).all()
    # ... and each place in the batch sees the whole range evenly.
    for place in range(8):
        counts = torch.bincount(draws[:, place] // 100, minlength=10)
        assert counts.min() > 320 and counts.max() < 480


def test_weighted_error_averages_pictures_by_weight() -> None:
    guess = torch.tensor([1.0, 3.0]).view(2, 1, 1, 1)
    assert float(loss.weighted_error(guess, torch.zeros(2, 1, 1, 1), torch.tensor([1.0, 0.5]))) == 2.75
