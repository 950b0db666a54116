//! Data-parallel training: several workers with equal models, each with its share of every batch.
//!
//! A worker is a thread with a device. Threads of one process sum over Burn's collective operations (cargo feature
//! `collective`), on NVIDIA GPUs over NCCL if the build has it (`nccl`); processes, on one machine or several, sum over TCP.
//! Both can be combined: `N` processes of `T` threads are `N·T` workers.
//!
//! # What makes the models equal
//! All workers start from the same seed or checkpoint, and after every batch each runs the same optimizer on the same
//! gradients: [`Worker::sum_gradients`] gives every worker the same bits. The order of additions is fixed (by rank, or by
//! device), so a run repeats itself bit for bit. A loss divided by the number of tokens of the *whole* batch, before
//! `backward`, makes the sum of the gradients that of one device with the whole batch, up to rounding.
//!
//! Every worker needs a model of its own, made in its thread or with Burn's `Module::fork`. Clones share their places in
//! Burn's autodiff graph, and two threads that run `backward` through one graph can wait for each other for ever.
//!
//! Decisions must be common too, or some workers wait for sums that others do not make: whether to stop, whether the loss is
//! finite, whether it is time to save. Let [`Worker::sum`] count those in favour.
//!
//! # When a worker is lost
//! A killed process, a panic, a worker that returns an error: everybody else gets [`Error::LostPeer`] from the sum that they
//! are in or the next one. Silence is the only case that takes time: `patience` for somebody who waits in the first
//! process, and up to twice that in the others. The model is then as it was after the last step, so that a checkpoint of it
//! can be resumed; [`Error::heir`] says whose task it is.
//!
//! # Trust
//! The processes neither encrypt nor authenticate what they send: use them in a network of your own.
//!
//! ```
//! # #[cfg(all(feature = "flex", feature = "collective"))] {
//! use burn::backend::{Autodiff, Flex};
//! use rwkv_train::parallel::{self, PATIENCE, Worker};
//!
//! // Two threads on the CPU.
//! let workers = parallel::workers::<Autodiff<Flex>>(&[Default::default(), Default::default()], None, PATIENCE)?;
//! let sums = parallel::run(workers, |worker: &mut Worker| Ok(worker.sum(&[1.0, worker.rank() as f64])?))?;
//! assert_eq!(sums, [[2.0, 1.0], [2.0, 1.0]]);
//! # }
//! # Ok::<(), rwkv_train::error::Error>(())
//! ```

mod buckets;
mod error;
mod meeting;
#[cfg(feature = "nccl")]
mod nccl;
mod nodes;
mod rendezvous;
mod run;
mod team;
#[cfg_attr(not(feature = "collective"), path = "no_threads.rs")]
mod threads;
mod wire;
mod worker;

pub use error::{Error, Result};
pub use nodes::Nodes;
pub use run::run;
pub use worker::{PATIENCE, Worker, workers};
