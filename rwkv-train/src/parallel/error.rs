//! What can go wrong between workers.

use std::time::Duration;

/// The result of something that several workers do together.
pub type Result<T> = std::result::Result<T, Error>;

/// A failure of working together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Workers that will not answer any more: a killed process, a broken connection, a thread that panicked or ended, or
    /// somebody who stayed silent for too long. Every other worker gets this error, and none can go on.
    #[error("lost {} of {world}: {reason}", list("worker", ranks))]
    LostPeer {
        /// Who was lost, as far as this worker knows.
        ranks: Vec<usize>,
        /// How many workers there were.
        world: usize,
        /// What was seen of it.
        reason: String,
    },
    /// Not all processes met at the rendezvous in time.
    #[error(
        "waited {:.0} s at {address} for {expected} processes and only {came} came, without {}; are they started, with the \
         same --nodes and --rendezvous?",
        waited.as_secs_f64(), list("node", missing)
    )]
    NeverCame {
        /// The rendezvous.
        address: String,
        /// How many processes there should be.
        expected: usize,
        /// How many there were, this one included.
        came: usize,
        /// The node ranks of those that are missing.
        missing: Vec<usize>,
        /// For how long.
        waited: Duration,
    },
    /// A rank that the world does not have.
    #[error("node rank {rank} is not among {count} nodes, which are counted from 0")]
    Rank {
        /// The rank.
        rank: usize,
        /// How many nodes there are.
        count: usize,
    },
    /// A world without a worker.
    #[error("there must be at least one {0}, not none")]
    Nobody(&'static str),
    /// A batch that cannot be dealt out evenly.
    #[error("{rows} rows cannot be shared evenly among {world} workers; {rows} must be a multiple of {world}")]
    Uneven {
        /// How many rows there are.
        rows: usize,
        /// How many workers.
        world: usize,
    },
    /// The process at the rendezvous does not want this one, or the other way round.
    #[error("the processes at {address} do not fit together: {problem}")]
    Refused {
        /// The rendezvous.
        address: String,
        /// Why.
        problem: String,
    },
    /// An address that cannot be used.
    #[error("cannot use the rendezvous {address}: {problem}")]
    Address {
        /// The address.
        address: String,
        /// Why.
        problem: String,
    },
    /// Workers whose work differs where it must be equal.
    #[error("the workers disagree about {0}")]
    Disagree(String),
    /// Burn's collective operations know one group of workers per process and backend.
    #[error("another group of workers uses this backend in this process; it must end first")]
    Busy,
    /// Burn's collective operation failed although all workers are there.
    #[error("Burn's collective operation failed: {0}")]
    Collective(String),
    /// A worker's own panic, caught by [`run`](super::run()).
    #[error("worker {rank} panicked: {message}")]
    Panicked {
        /// Whose.
        rank: usize,
        /// The panic's message.
        message: String,
    },
    /// Something that this build does not have.
    #[error("{what} needs the cargo feature `{feature}`, which this build does not have")]
    NotCompiled {
        /// What was asked for.
        what: &'static str,
        /// The feature.
        feature: &'static str,
    },
}

impl Error {
    /// The worker that should save a checkpoint after this error: the first that is not lost; `None` when nobody should, since
    /// the workers' states may differ.
    #[must_use]
    pub fn heir(&self) -> Option<usize> {
        match self {
            Self::LostPeer { ranks, world, .. } => (0..*world).find(|rank| !ranks.contains(rank)),
            _ => None,
        }
    }
}

/// `worker 3`, `workers 3, 4 and 5`.
fn list(noun: &str, ranks: &[usize]) -> String {
    let names: Vec<String> = ranks.iter().map(ToString::to_string).collect();
    match names.as_slice() {
        [] => format!("a {noun}"),
        [only] => format!("{noun} {only}"),
        [rest @ .., last] => format!("{noun}s {} and {last}", rest.join(", ")),
    }
}
