//! The numbers in RWKV-4's initialisation, for those who want to know what they are good for.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// The numbers in [`Rule`](super::init::Rule)s; the defaults are those of the official trainer.
///
/// With `ρ₀ = l/(L−1)` and `ρ₁ = 1 − l/L` for layer `l` of `L`, and `x = i/C` or `h/(A−1)` along a vector.
///
/// # Source
/// Reference §3.1.
///
/// # Example
/// ```
/// use rwkv_core::{config::RwkvConfig, model::{InitRatios, init::Rule}};
/// let ratios = InitRatios { zero_gain: 1.0, ..InitRatios::default() };
/// let config = RwkvConfig { init: ratios, ..RwkvConfig::new(65, 4, 128) };
/// assert_eq!(Rule::of("blocks.0.att.output.weight", &config), Rule::Orthogonal { gain: 1.0 });
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InitRatios {
    /// The embedding from `N(0, σ²)` with this `σ`, instead of uniformly from `±emb_init_scale`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emb_std: Option<f64>,
    /// Gain of the matrices that start as zeros, which are orthogonal instead when it is not 0: `att.key`, `att.receptance`,
    /// `att.output`, `ffn.value`, `ffn.receptance`.
    pub zero_gain: f64,
    /// Gain of `att.value`.
    pub value_gain: f64,
    /// Gain of `ffn.key`.
    pub ffn_key_gain: f64,
    /// Gain of `head`.
    pub head_gain: f64,
    /// `time_decay` of the slowest channel.
    pub decay_first: f64,
    /// What the fastest channel has more.
    pub decay_range: f64,
    /// `time_decay = decay_first + decay_range·x^(decay_power + decay_power_by_layer·ρ₀)`.
    pub decay_power: f64,
    /// See [`Self::decay_power`].
    pub decay_power_by_layer: f64,
    /// `time_first = ln(first) + first_zigzag·((i+1) mod 3 − 1)`.
    pub first: f64,
    /// See [`Self::first`].
    pub first_zigzag: f64,
    /// `time_mix = x^(mix_power·ρ₁)`; 0 starts with the current token alone.
    pub mix_power: f64,
    /// What `time_mix_v` of the time-mix has more, times `ρ₀`.
    pub mix_value_lift: f64,
    /// The power of `time_mix_r` of the time-mix, as a share of the others'.
    pub mix_receptance: f64,
}

impl Default for InitRatios {
    fn default() -> Self {
        Self {
            emb_std: None,
            zero_gain: 0.0,
            value_gain: 1.0,
            ffn_key_gain: 1.0,
            head_gain: 0.5,
            decay_first: -5.0,
            decay_range: 8.0,
            decay_power: 0.7,
            decay_power_by_layer: 1.3,
            first: 0.3,
            first_zigzag: 0.5,
            mix_power: 1.0,
            mix_value_lift: 0.3,
            mix_receptance: 0.5,
        }
    }
}

impl InitRatios {
    /// Whether these are the official trainer's.
    #[must_use]
    pub fn are_official(&self) -> bool {
        *self == Self::default()
    }

    /// Checks that all are numbers, and those positive that must be.
    pub(crate) fn validate(&self) -> Result<()> {
        let Self { zero_gain, value_gain, ffn_key_gain, head_gain, decay_power, decay_power_by_layer, .. } = *self;
        let Self { decay_first, decay_range, first, first_zigzag, mix_power, mix_value_lift, mix_receptance, .. } =
            *self;
        let finite = [
            ("init.zero_gain", zero_gain),
            ("init.value_gain", value_gain),
            ("init.ffn_key_gain", ffn_key_gain),
            ("init.head_gain", head_gain),
            ("init.decay_first", decay_first),
            ("init.decay_range", decay_range),
            ("init.decay_power", decay_power),
            ("init.decay_power_by_layer", decay_power_by_layer),
            ("init.first_zigzag", first_zigzag),
            ("init.mix_power", mix_power),
            ("init.mix_value_lift", mix_value_lift),
            ("init.mix_receptance", mix_receptance),
        ];
        if let Some((key, number)) = finite.into_iter().find(|(_, number)| !number.is_finite()) {
            return Err(Error::config(key, "a number", number));
        }
        for (key, number) in [("init.first", Some(first)), ("init.emb_std", self.emb_std)] {
            match number {
                Some(number) if !number.is_finite() || number <= 0.0 => {
                    return Err(Error::config(key, "a positive number", number));
                }
                _ => {}
            }
        }
        Ok(())
    }
}
