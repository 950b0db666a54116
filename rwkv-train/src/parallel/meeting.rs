//! Where the threads of one process meet, on the host.

use super::error::{Error, Result};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// What a thread brings to a meeting.
#[derive(Debug, Clone)]
pub(super) enum Note {
    /// What it is going to sum.
    Signature(u64),
    /// Numbers to be summed.
    Numbers(Vec<f64>),
    /// What the thread that speaks with the other processes has heard from them.
    Heard(Arc<Heard>),
    /// Nothing but attention.
    Listening,
}

/// Sums over all processes.
#[derive(Debug)]
pub(super) enum Heard {
    /// Gradients.
    F32(Vec<f32>),
    /// Gradients, or a caller's numbers.
    F64(Vec<f64>),
}

/// A group of threads that exchange notes, all of them or none.
///
/// The first who sees that somebody is missing ends the group: everyone then gets the same error, for ever.
pub(super) struct Meeting {
    state: Mutex<State>,
    changed: Condvar,
    patience: Duration,
    /// Frees those who wait inside Burn for somebody who is not going to come.
    on_failure: fn(),
    /// The world's rank of this process's first thread, and the world's size: for messages.
    first_rank: usize,
    world: usize,
}

struct State {
    /// The notes of the meeting that is open.
    notes: Vec<Option<Note>>,
    /// How many meetings each has come to.
    came: Vec<u64>,
    gone: Vec<Option<String>>,
    /// The notes of the last complete meeting, and its number.
    result: Arc<Vec<Note>>,
    complete: u64,
    failed: Option<Error>,
}

impl Meeting {
    pub(super) fn new(
        threads: usize,
        patience: Duration,
        on_failure: fn(),
        first_rank: usize,
        world: usize,
    ) -> Arc<Self> {
        let state = State {
            notes: vec![None; threads],
            came: vec![0; threads],
            gone: vec![None; threads],
            result: Arc::default(),
            complete: 0,
            failed: None,
        };
        Arc::new(Self { state: Mutex::new(state), changed: Condvar::new(), patience, on_failure, first_rank, world })
    }

    /// Everybody's notes in the order of ranks, once all have come.
    pub(super) fn gather(&self, thread: usize, note: Note) -> Result<Arc<Vec<Note>>> {
        self.gather_until(Some(Instant::now() + self.patience), thread, note)
    }

    /// The same without an end to patience, for the threads that wait while one of them speaks with other processes: that
    /// one's patience has an end, and says more when it is over.
    pub(super) fn gather_while_one_speaks(&self, thread: usize, note: Note) -> Result<Arc<Vec<Note>>> {
        self.gather_until(None, thread, note)
    }

    fn gather_until(&self, deadline: Option<Instant>, thread: usize, note: Note) -> Result<Arc<Vec<Note>>> {
        let mut state = self.lock();
        if let Some(error) = &state.failed {
            return Err(error.clone());
        }
        state.notes[thread] = Some(note);
        state.came[thread] += 1;
        let number = state.came[thread];
        if state.notes.iter().all(Option::is_some) {
            let notes = state.notes.iter_mut().filter_map(Option::take).collect();
            state.result = Arc::new(notes);
            state.complete = number;
            self.changed.notify_all();
        }
        loop {
            // A complete meeting counts even if somebody left right after it: all must decide alike.
            if state.complete >= number {
                return Ok(Arc::clone(&state.result));
            }
            if let Some(error) = &state.failed {
                return Err(error.clone());
            }
            if let Some((absent, reason)) =
                state.gone.iter().enumerate().find_map(|(thread, gone)| gone.clone().map(|reason| (thread, reason)))
            {
                return Err(self.fail_locked(&mut state, self.lost(vec![absent], reason)));
            }
            let Some(deadline) = deadline else {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let Some(left) = deadline.checked_duration_since(Instant::now()) else {
                let absent = (0..state.notes.len()).filter(|thread| state.notes[*thread].is_none()).collect();
                let reason = format!("nothing was heard for {:.0} s", self.patience.as_secs_f64());
                return Err(self.fail_locked(&mut state, self.lost(absent, reason)));
            };
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Ends the group with this error, unless it has ended before; returns why it ended.
    pub(super) fn fail(&self, error: Error) -> Error {
        self.fail_locked(&mut self.lock(), error)
    }

    /// Why the group ended, if it did.
    pub(super) fn failure(&self) -> Option<Error> {
        self.lock().failed.clone()
    }

    /// This thread will come to no further meeting.
    ///
    /// With a reason the group ends now. Without one it ends when somebody waits for the thread that left, which nobody
    /// does when all have done the same work.
    pub(super) fn leave(&self, thread: usize, reason: Option<String>) {
        let mut state = self.lock();
        if let Some(reason) = reason {
            let error = self.lost(vec![thread], reason.clone());
            state.gone[thread] = Some(reason);
            self.fail_locked(&mut state, error);
        } else if state.gone[thread].is_none() {
            state.gone[thread] = Some("it ended while the others went on".to_owned());
            self.changed.notify_all();
        }
    }

    fn lost(&self, threads: Vec<usize>, reason: String) -> Error {
        let ranks = threads.into_iter().map(|thread| self.first_rank + thread).collect();
        Error::LostPeer { ranks, world: self.world, reason }
    }

    fn fail_locked(&self, state: &mut State, error: Error) -> Error {
        if let Some(earlier) = &state.failed {
            return earlier.clone();
        }
        state.failed = Some(error.clone());
        (self.on_failure)();
        self.changed.notify_all();
        error
    }

    /// A panic elsewhere leaves nothing half-written here: every change is one assignment.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
