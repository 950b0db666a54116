//! What happens in a run beside its rows of metrics.

use crate::progress::Progress;
use crate::row::Outcome;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Something worth a line in `events.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A step was left out because its loss or gradient is no number.
    Skipped {
        /// The step, counted from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// The gradient's norm.
        grad_norm: f64,
        /// The learning rate.
        lr: f64,
        /// The first tensor with numbers that are none, or that it was looked for too late.
        culprit: String,
    },
    /// The loss is far above its moving mean.
    Spike {
        /// The step, counted from 1.
        step: usize,
        /// The loss.
        loss: f64,
        /// The moving mean before.
        mean: f64,
        /// The moving standard deviation before.
        deviation: f64,
    },
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Skipped { step, loss, grad_norm, lr, culprit } => write!(
                f,
                "step {step} left out: loss {loss}, gradient norm {grad_norm}, learning rate {lr:.1e}; {culprit}"
            ),
            Self::Spike { step, loss, mean, deviation } => {
                write!(f, "loss {loss:.4} at step {step}: {:.1} deviations above {mean:.4}", (loss - mean) / deviation)
            }
        }
    }
}

/// The share of a new loss in the moving mean and variance.
const SHARE: f64 = 0.02;
/// Losses before spikes are looked for.
const LEAST: usize = 50;

/// Looks for losses far above their moving mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spikes {
    factor: f64,
}

impl Spikes {
    /// Spikes are `factor` standard deviations above the mean; 0 for none.
    pub(crate) fn new(factor: f64) -> Self {
        Self { factor }
    }

    /// Takes in a step's loss; the moving moments are part of the run's progress, so that a resumed run sees the same spikes.
    pub(crate) fn look(&self, progress: &mut Progress, &Outcome { step, loss, .. }: &Outcome) -> Option<Event> {
        let (mean, deviation) = (progress.loss_mean, progress.loss_variance.sqrt());
        let away = loss - mean;
        let spike = self.factor > 0.0 && progress.losses >= LEAST && away > self.factor * deviation;
        // The first losses weigh alike.
        let share = SHARE.max(1.0 / (progress.losses as f64 + 1.0));
        progress.losses += 1;
        progress.loss_mean += share * away;
        progress.loss_variance = (1.0 - share) * (progress.loss_variance + share * away * away);
        spike.then_some(Event::Spike { step, loss, mean, deviation })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spike_stands_out_and_noise_does_not() {
        let (spikes, mut progress) = (Spikes::new(6.0), Progress::default());
        let noise = |i: usize| 3.0 + 0.1 * ((i * 7919 % 100) as f64 / 50.0 - 1.0);
        let of = |step: usize, loss: f64| Outcome { step, lr: 1e-3, loss, grad_norm: 1.0 };
        let seen: Vec<Event> = (0..300).filter_map(|i| spikes.look(&mut progress, &of(i + 1, noise(i)))).collect();
        assert_eq!(seen, []);
        let event = spikes.look(&mut progress, &of(301, 4.0)).expect("a spike");
        assert!(event.to_string().contains("4.0000") && matches!(event, Event::Spike { step: 301, .. }), "{event}");
        assert_eq!(Spikes::new(0.0).look(&mut progress, &of(302, 1e9)), None);
    }
}
