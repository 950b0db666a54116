//! In which order training goes through the windows of a token stream.

use rwkv_core::error::Error;
use serde::{Deserialize, Serialize};

/// An order of windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Windows at uniformly random places, with overlaps.
    #[default]
    Random,
    /// Every window without overlap once a pass, in an order that the seed shuffles anew for every pass.
    Shuffled,
    /// The official order of the released models: a cubic permutation modulo a prime.
    MagicPrime,
    /// From the beginning to the end, and again.
    Sequential,
}

impl std::str::FromStr for Order {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        match name {
            "random" => Ok(Self::Random),
            "shuffled" => Ok(Self::Shuffled),
            "magic_prime" => Ok(Self::MagicPrime),
            "sequential" => Ok(Self::Sequential),
            other => Err(Error::config("order", "random, shuffled, magic_prime or sequential", other)),
        }
    }
}
