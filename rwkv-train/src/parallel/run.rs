//! Running all workers of a process.

use super::error::Error;
use super::worker::Worker;
use crate::error::{Error as TrainError, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does the work of all workers, each on a thread of its own, the first on this one; returns what they return.
///
/// A worker that returns an error or panics ends the others too, at their next sum.
///
/// # Errors
/// What the first worker ended with that did not end because of another; else [`Error::LostPeer`].
pub fn run<T: Send>(workers: Vec<Worker>, work: impl Fn(&mut Worker) -> Result<T> + Sync) -> Result<Vec<T>> {
    let mut workers = workers.into_iter();
    let Some(first) = workers.next() else {
        return Ok(Vec::new());
    };
    let work = &work;
    let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
        let others: Vec<_> = workers.map(|worker| scope.spawn(move || guard(worker, work))).collect();
        let first = guard(first, work);
        let join = |other: std::thread::ScopedJoinHandle<'_, Result<T>>| {
            other.join().unwrap_or_else(|panic| Err(panicked(0, &*panic)))
        };
        std::iter::once(first).chain(others.into_iter().map(join)).collect()
    });
    let mut results = Vec::new();
    let mut consequence = None;
    let mut cause = None;
    for outcome in outcomes {
        match outcome {
            Ok(result) => results.push(result),
            Err(error @ TrainError::Parallel(Error::LostPeer { .. })) => consequence = consequence.or(Some(error)),
            Err(error) => cause = cause.or(Some(error)),
        }
    }
    cause.or(consequence).map_or(Ok(results), Err)
}

/// One worker's work; the others hear how it ended.
fn guard<T>(mut worker: Worker, work: impl Fn(&mut Worker) -> Result<T>) -> Result<T> {
    let outcome = catch_unwind(AssertUnwindSafe(|| work(&mut worker)))
        .unwrap_or_else(|panic| Err(panicked(worker.rank(), &*panic)));
    if let Err(error) = &outcome {
        worker.leave(&error.to_string());
    }
    outcome
}

fn panicked(rank: usize, panic: &(dyn Any + Send)) -> TrainError {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    let message = text.or_else(|| panic.downcast_ref::<String>().cloned());
    Error::Panicked { rank, message: message.unwrap_or_else(|| "without a message".to_owned()) }.into()
}
