//! The dashboard of a build that has none: it cannot be opened.

use crate::Failure;
use rwkv_train::metrics::Metrics;
use std::convert::Infallible;

/// A dashboard, of which there is none in this build.
pub struct Dashboard(Infallible);

impl Dashboard {
    /// Whether one can be opened.
    ///
    /// # Errors
    /// Always: the build lacks it.
    pub fn check() -> Result<(), Failure> {
        Err(missing())
    }

    /// Opens no dashboard.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn open(_steps: usize, _done: usize) -> Result<Self, Failure> {
        Err(missing())
    }

    /// After a step, counted from 1.
    pub fn at(&mut self, _step: usize) {
        match self.0 {}
    }

    /// A row of metrics.
    pub fn show(&mut self, _row: &Metrics) {
        match self.0 {}
    }

    /// Whether the user asked to stop.
    #[must_use]
    pub fn stop_requested(&self) -> bool {
        match self.0 {}
    }

    /// Gives the terminal back.
    pub fn close(self) {
        match self.0 {}
    }
}

fn missing() -> Failure {
    Failure("this build has no dashboard; build with --features dashboard".into())
}
