//! In which order training goes through the windows of a token stream.

mod magic_prime;
mod shuffle;

pub use magic_prime::MagicPrime;

use crate::error::Result;
use chacha20::ChaCha8Rng;
use rand::{RngExt, SeedableRng};
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
    /// The official order of the released models: a cubic permutation modulo a prime ([`MagicPrime`]).
    MagicPrime,
    /// From the beginning to the end, and again.
    Sequential,
}

impl std::str::FromStr for Order {
    type Err = Error;

    fn from_str(name: &str) -> std::result::Result<Self, Error> {
        match name {
            "random" => Ok(Self::Random),
            "shuffled" => Ok(Self::Shuffled),
            "magic_prime" => Ok(Self::MagicPrime),
            "sequential" => Ok(Self::Sequential),
            other => Err(Error::config("order", "random, shuffled, magic_prime or sequential", other)),
        }
    }
}

/// Where the windows of one stream begin.
#[derive(Debug, Clone, Copy)]
pub(super) enum Starts {
    Random { places: usize, seed: u64 },
    Shuffled { windows: u64, ctx_len: usize, seed: u64 },
    MagicPrime(MagicPrime),
    Sequential { windows: u64, ctx_len: usize },
}

impl Starts {
    /// For a stream of at least `ctx_len + 1` tokens.
    pub(super) fn new(order: Order, tokens: usize, ctx_len: usize, seed: u64) -> Result<Self> {
        let windows = ((tokens - 1) / ctx_len) as u64;
        Ok(match order {
            Order::Random => Self::Random { places: tokens - ctx_len, seed },
            Order::Shuffled => Self::Shuffled { windows, ctx_len, seed },
            Order::MagicPrime => Self::MagicPrime(MagicPrime::new(tokens as u64, ctx_len as u64)?),
            Order::Sequential => Self::Sequential { windows, ctx_len },
        })
    }

    /// The first token of the window of this number, counted from 0 and on for ever.
    pub(super) fn get(&self, index: u64) -> usize {
        match *self {
            Self::Random { places, seed } => {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                rng.set_stream(index);
                rng.random_range(0..places)
            }
            Self::Shuffled { windows, ctx_len, seed } => {
                shuffle::Shuffle::new(windows, seed, index / windows).get(index % windows) as usize * ctx_len
            }
            // The official trainer counts from 1.
            Self::MagicPrime(order) => order.offset(index % order.prime + 1) as usize,
            Self::Sequential { windows, ctx_len } => (index % windows) as usize * ctx_len,
        }
    }
}
