//! Token shift with switches, for RWKV-4's ablated parts.

use super::mixer::Parameter;
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use crate::model::init::Initializer;
use crate::ops::RwkvBackend;
use crate::ops::token_shift::token_shifts;
use burn::module::Param;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};

/// How much of the token before goes into a projection's input, `μ·x_t + (1−μ)·x_{t−1}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenShift {
    /// `μ` is learned for every channel, as in RWKV-4.
    #[default]
    Learned,
    /// `μ = 1`: each token is seen alone.
    None,
    /// `μ = ½`, and stays.
    Half,
    /// `μ` is learned for each of so many groups of neighbouring channels.
    PerHead(usize),
}

impl TokenShift {
    /// The parameter of this name, if there is one.
    pub(super) fn parameter(self, name: &'static str, config: &RwkvConfig) -> Option<Parameter> {
        let size = match self {
            Self::Learned => config.n_embd,
            Self::PerHead(heads) => heads,
            Self::None | Self::Half => return None,
        };
        Some(Parameter::new(name, [1, 1, size], None))
    }

    pub(super) fn validate(self, config: &RwkvConfig) -> Result<()> {
        match self {
            Self::PerHead(heads) if heads == 0 || !config.n_embd.is_multiple_of(heads) => {
                let expected = format!("per-head groups that divide n_embd, {}", config.n_embd);
                Err(Error::config("token_shift", expected, heads))
            }
            _ => Ok(()),
        }
    }

    /// `μ` of one projection, if there is one.
    pub(super) fn mu<B: Backend>(
        self,
        init: &Initializer<'_, B>,
        mixer: &str,
        name: &'static str,
    ) -> Option<Param<Tensor<B, 3>>> {
        let parameter = self.parameter(name, init.config)?;
        Some(init.tensor(&format!("{mixer}.{name}"), [1, 1, parameter.size()]))
    }
}

/// The inputs of projections; of one that has no `μ` where others learn theirs, the input itself.
///
/// # Shapes
/// - `x`: `[B, T, C]`; `last`: `[B, C]`
pub(super) fn shifted<B: RwkvBackend, const N: usize>(
    mu: [&Option<Param<Tensor<B, 3>>>; N],
    shift: TokenShift,
    x: &Tensor<B, 3>,
    last: &Tensor<B, 2>,
) -> [Tensor<B, 3>; N] {
    let mu = mu.map(|mu| whole(mu, shift, x, last));
    let present = mu.each_ref().map(Option::is_some);
    let mut outputs = token_shifts(x.clone(), last.clone(), mu.into_iter().flatten().collect()).into_iter();
    present.map(|present| present.then(|| outputs.next()).flatten().unwrap_or_else(|| x.clone()))
}

/// A `μ` for every channel, `[1, 1, C]`; nothing where the token before plays no part.
fn whole<B: RwkvBackend>(
    mu: &Option<Param<Tensor<B, 3>>>,
    shift: TokenShift,
    x: &Tensor<B, 3>,
    last: &Tensor<B, 2>,
) -> Option<Tensor<B, 3>> {
    let width = x.dims()[2];
    match (mu, shift) {
        (Some(mu), _) => {
            let mu = mu.val();
            let groups = mu.dims()[2];
            if groups == width {
                Some(mu)
            } else {
                Some(mu.reshape([groups, 1]).repeat_dim(1, width / groups).reshape([1, 1, width]))
            }
        }
        (None, TokenShift::Half) => Some(Tensor::full([1, 1, width], 0.5, (&x.device(), last.dtype()))),
        (None, _) => None,
    }
}
