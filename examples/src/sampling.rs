//! The flags of programs that draw tokens.

use clap::Args;
use rwkv_core::generate::SamplerConfig;

/// How tokens are drawn; see `SamplerConfig` of `rwkv-core` for the order.
#[derive(Debug, Clone, Args)]
pub struct SamplingArgs {
    /// Below 1: nearer to the most probable token; 0: always that one.
    #[arg(long, default_value_t = 1.0)]
    temperature: f64,
    /// Draw from the most probable tokens that make up this share.
    #[arg(long, default_value_t = 0.85)]
    top_p: f64,
    /// Draw from this many most probable tokens; 0: no limit.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draw from tokens at least this times the square of the largest probability; 0: no limit.
    #[arg(long, default_value_t = 0.0)]
    top_a: f64,
    /// Draw from tokens at least this times as probable as the most probable one; 0: no limit.
    #[arg(long, default_value_t = 0.0)]
    min_p: f64,
    /// Draw from the tokens of the most typical surprise that make up this share; 1: from all.
    #[arg(long, default_value_t = 1.0)]
    typical_p: f64,
    /// Subtract this from the logits of tokens that were written; 0.2 suits vocabularies of words.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    alpha_presence: f64,
    /// Subtract this for each time that a token was written; 0.2 suits vocabularies of words.
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    alpha_frequency: f64,
    /// Multiply the counts by this with every token.
    #[arg(long, default_value_t = 0.996)]
    alpha_decay: f64,
    /// Divide positive logits of tokens that were written by this, and multiply negative ones; 1: neither.
    #[arg(long, default_value_t = 1.0)]
    repetition_penalty: f64,
    /// Do not count digits and spaces that were written.
    #[arg(long)]
    exempt_digits: bool,
    /// Add a number to a token's logit; may be repeated.
    #[arg(long, value_name = "ID=VALUE", value_parser = bias)]
    logit_bias: Vec<(u32, f64)>,
    /// Never draw this token; may be repeated.
    #[arg(long, value_name = "ID")]
    ban: Vec<u32>,
}

impl SamplingArgs {
    /// The settings, not yet validated.
    #[must_use]
    pub fn config(&self) -> SamplerConfig {
        SamplerConfig {
            temperature: self.temperature,
            top_p: self.top_p,
            top_k: self.top_k,
            top_a: self.top_a,
            min_p: self.min_p,
            typical_p: self.typical_p,
            alpha_presence: self.alpha_presence,
            alpha_frequency: self.alpha_frequency,
            alpha_decay: self.alpha_decay,
            repetition_penalty: self.repetition_penalty,
            exempt_digits: self.exempt_digits,
            logit_bias: self.logit_bias.clone(),
            ban: self.ban.clone(),
        }
    }
}

/// Reads `ID=VALUE`.
fn bias(text: &str) -> Result<(u32, f64), String> {
    let wrong = || "expected a token id and a number, as in 187=-1.5".to_owned();
    let (token, value) = text.split_once('=').ok_or_else(wrong)?;
    Ok((token.trim().parse().map_err(|_| wrong())?, value.trim().parse().map_err(|_| wrong())?))
}
