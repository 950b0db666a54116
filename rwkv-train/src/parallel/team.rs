//! The threads of one process.

use super::error::{Error, Result};
use super::meeting::{Meeting, Note};
use super::threads::Group;
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::sync::Arc;
use std::time::Duration;

/// One thread's place among the threads of its process.
pub(super) struct Team {
    pub(super) meeting: Arc<Meeting>,
    group: Arc<Group>,
    pub(super) thread: usize,
}

/// A place for each of several devices; none for one.
pub(super) fn teams<B: Backend>(
    devices: &[B::Device],
    patience: Duration,
    first_rank: usize,
    world: usize,
) -> Result<Vec<Team>> {
    if devices.len() == 1 {
        return Ok(Vec::new());
    }
    let group = Arc::new(Group::new::<B>(devices)?);
    let meeting = Meeting::new(devices.len(), patience, group.forget(), first_rank, world);
    let place = |thread| Team { meeting: Arc::clone(&meeting), group: Arc::clone(&group), thread };
    Ok((0..devices.len()).map(place).collect())
}

impl Team {
    /// The sums of all threads' numbers, in the order of threads.
    pub(super) fn sum(&self, values: &[f64]) -> Result<Vec<f64>> {
        let notes = self.meeting.gather(self.thread, Note::Numbers(values.to_vec()))?;
        let mut sums = vec![0.0; values.len()];
        for note in notes.iter() {
            match note {
                Note::Numbers(numbers) if numbers.len() == sums.len() => {
                    sums.iter_mut().zip(numbers).for_each(|(sum, number)| *sum += number);
                }
                _ => return Err(self.disagree()),
            }
        }
        Ok(sums)
    }

    /// Makes sure that all threads are here, for the same sum, before any of them waits inside Burn.
    pub(super) fn agree(&self, signature: u64) -> Result<()> {
        let notes = self.meeting.gather(self.thread, Note::Signature(signature))?;
        let same = |note: &Note| matches!(note, Note::Signature(other) if *other == signature);
        if notes.iter().all(same) { Ok(()) } else { Err(self.disagree()) }
    }

    pub(super) fn disagree(&self) -> Error {
        let what = "what to sum: they have different parameters, or one is steps ahead";
        self.meeting.fail(Error::Disagree(what.to_owned()))
    }

    /// The sum of all threads' vectors, after they have agreed.
    pub(super) fn sum_vector<B: Backend>(&self, vector: Tensor<B, 1>) -> Result<Tensor<B, 1>> {
        self.group.sum(&self.meeting, self.thread, vector)
    }
}
