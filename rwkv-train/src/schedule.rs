//! The learning rate over time.

use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};

/// How the learning rate falls after the warm-up and the constant phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Decay {
    /// Not at all.
    Constant,
    /// `lr_init·(lr_final/lr_init)^progress`: the released models' schedule.
    Exponential,
    /// Half a cosine from `lr_init` to `lr_final`.
    Cosine,
    /// A straight line from `lr_init` to `lr_final`.
    Linear,
    /// Warm-up, stable, decay: constant until the last `decay_steps`, then `lr_final + (lr_init − lr_final)·(1 − √progress)`.
    ///
    /// # Source
    /// Hägele et al. 2024 (arXiv 2405.18392), §3.
    Wsd,
}

impl std::str::FromStr for Decay {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "constant" => Ok(Self::Constant),
            "exponential" => Ok(Self::Exponential),
            "cosine" => Ok(Self::Cosine),
            "linear" => Ok(Self::Linear),
            "wsd" => Ok(Self::Wsd),
            other => Err(Error::config("lr_schedule", "constant, exponential, cosine, linear or wsd", other)),
        }
    }
}

/// A learning-rate schedule: warm-up, a constant phase, then decay to the last step.
///
/// With `before = constant + warmup`, `progress = clamp((step − before + 1)/(steps − before), 0, 1)`, steps counted from 0;
/// during the warm-up the rate is multiplied by `0.2 + 0.8·step/warmup`. In [`Decay::Wsd`] the decay begins
/// `decay_steps` before the end instead.
///
/// # Source
/// Reference §4.3; `train_callback` of the official `RWKV-v4neo/src/trainer.py`, whose `my_pile_edecay` is the constant phase.
///
/// # Example
/// ```
/// use rwkv_train::config::RunConfig;
/// let schedule = RunConfig::from_toml("[train]\nlr_init = 1e-3\nlr_final = 1e-4\nwarmup_steps = 50\nsteps = 2000")
///     .unwrap()
///     .schedule();
/// assert!((schedule.lr(0) - 2e-4).abs() < 1e-12);
/// assert!((schedule.lr(1999) - 1e-4).abs() < 1e-12);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Schedule {
    /// The rate after the warm-up.
    pub lr_init: f64,
    /// The rate at the last step.
    pub lr_final: f64,
    /// Steps of warm-up.
    pub warmup_steps: usize,
    /// Steps at `lr_init` after it.
    pub constant_steps: usize,
    /// Steps of decay in [`Decay::Wsd`].
    pub decay_steps: usize,
    /// Steps in all.
    pub steps: usize,
    /// The way from one rate to the other.
    pub decay: Decay,
}

impl Schedule {
    /// The learning rate of a step, counted from 0.
    #[must_use]
    pub fn lr(&self, step: usize) -> f64 {
        let Self { lr_init, lr_final, warmup_steps, constant_steps, decay_steps, steps, decay } = *self;
        let before = match decay {
            Decay::Wsd => steps.saturating_sub(decay_steps),
            _ => warmup_steps + constant_steps,
        };
        let length = steps.saturating_sub(before).max(1) as f64;
        let progress = ((step as f64 - before as f64 + 1.0) / length).clamp(0.0, 1.0);
        let lr = match decay {
            Decay::Constant => lr_init,
            // A rate of zero has no logarithm: the official code turns to a straight line there, too.
            Decay::Exponential if lr_init > 0.0 && lr_final > 0.0 => lr_init * (lr_final / lr_init).powf(progress),
            Decay::Cosine => lr_final + (lr_init - lr_final) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
            Decay::Exponential | Decay::Linear => lr_init + (lr_final - lr_init) * progress,
            Decay::Wsd => lr_final + (lr_init - lr_final) * (1.0 - progress.sqrt()),
        };
        if step < warmup_steps { lr * (0.2 + 0.8 * step as f64 / warmup_steps as f64) } else { lr }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(decay: Decay) -> Schedule {
        Schedule {
            lr_init: 6e-4,
            lr_final: 1e-5,
            warmup_steps: 10,
            constant_steps: 0,
            decay_steps: 100,
            steps: 110,
            decay,
        }
    }

    #[test]
    fn every_decay_starts_at_lr_init_and_ends_at_lr_final() {
        for decay in [Decay::Exponential, Decay::Cosine, Decay::Linear, Decay::Wsd] {
            let schedule = schedule(decay);
            assert!((schedule.lr(9) / (6e-4 * 0.92) - 1.0).abs() < 1e-9, "{decay:?}");
            assert!((schedule.lr(109) / 1e-5 - 1.0).abs() < 1e-9, "{decay:?}");
            assert!((schedule.lr(10_000) / 1e-5 - 1.0).abs() < 1e-9, "{decay:?}");
            assert!((10..109).all(|step| schedule.lr(step + 1) < schedule.lr(step)), "{decay:?}");
        }
        assert!((10..200).all(|step| schedule(Decay::Constant).lr(step) == 6e-4));
    }

    #[test]
    fn half_way_each_decay_is_where_its_formula_says() {
        let middle = 10 + 49; // progress ½
        assert!((schedule(Decay::Exponential).lr(middle) - (6e-4f64 * 1e-5).sqrt()).abs() < 1e-12);
        assert!((schedule(Decay::Cosine).lr(middle) - 3.05e-4).abs() < 1e-12);
        assert!((schedule(Decay::Linear).lr(middle) - 3.05e-4).abs() < 1e-12);
        let wsd = 1e-5 + 5.9e-4 * (1.0 - 0.5f64.sqrt());
        assert!((schedule(Decay::Wsd).lr(middle) - wsd).abs() < 1e-12);
    }

    #[test]
    fn the_constant_phase_comes_before_the_decay() {
        let long = Schedule { constant_steps: 40, ..schedule(Decay::Exponential) };
        assert!((10..49).all(|step| long.lr(step) == 6e-4));
        assert!((long.lr(50 + 29) - (6e-4f64 * 1e-5).sqrt()).abs() < 1e-12); // half of 60 steps
        let stable = Schedule { decay_steps: 20, ..schedule(Decay::Wsd) };
        assert!((10..89).all(|step| stable.lr(step) == 6e-4) && stable.lr(90) < 6e-4);
    }

    #[test]
    fn the_warm_up_rises_from_a_fifth() {
        let schedule = schedule(Decay::Linear);
        assert!((schedule.lr(0) - 0.2 * 6e-4).abs() < 1e-12);
        assert!((schedule.lr(5) - 0.6 * 6e-4).abs() < 1e-12);
    }

    #[test]
    fn odd_lengths_do_not_divide_by_zero() {
        let short = Schedule { warmup_steps: 20, steps: 10, ..schedule(Decay::Exponential) };
        assert!((0..30).all(|step| short.lr(step).is_finite()));
        let to_zero = Schedule { lr_final: 0.0, ..schedule(Decay::Exponential) };
        assert!(to_zero.lr(109).abs() < 1e-12);
    }
}
