//! Threads that go through phases of work together.
//!
//! One of them drives: it opens a phase, takes part in it and opens the next when all portions of it are done. The others
//! take portions of whatever phase is open. Nobody waits for a thread that has not taken anything, so it does not matter
//! how many there are, when they arrive or whether they are held up in between.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Where a crew stands.
#[derive(Debug)]
pub(super) struct Crew {
    /// The open phase in the upper half, the next portion of it in the lower.
    ticket: AtomicU64,
    /// Portions of the open phase that are done.
    done: AtomicUsize,
    /// How many portions each phase has.
    portions: Vec<u32>,
}

/// What the threads of a crew do.
pub(super) trait Work {
    /// Gets ready for a phase: reads what earlier phases wrote, and writes nothing that another thread sees. It may be in
    /// vain, and then what it reads may be half written.
    fn prepare(&mut self, phase: usize);

    /// Does one portion of the phase that it is ready for. No other thread does the same portion.
    fn portion(&mut self, phase: usize, portion: usize);
}

impl Crew {
    /// A crew for phases of so many portions.
    pub fn new(portions: Vec<u32>) -> Self {
        // No portion is left: nobody begins before the driver has opened the first phase.
        Self { ticket: AtomicU64::new(u64::from(u32::MAX)), done: AtomicUsize::new(0), portions }
    }

    /// Goes through all phases. Exactly one thread must.
    #[inline(always)]
    pub fn drive(&self, work: &mut impl Work) {
        let dismiss = Dismiss(self); // also where the work panics: others wait for the next phase
        for (phase, &portions) in self.portions.iter().enumerate() {
            self.done.store(0, Ordering::Relaxed);
            self.ticket.store((phase as u64) << 32, Ordering::Release);
            work.prepare(phase);
            while let Some(portion) = self.take(phase) {
                self.portion(work, phase, portion);
            }
            while self.done.load(Ordering::Acquire) < portions as usize {
                spin_loop();
            }
        }
        drop(dismiss);
    }

    /// Helps until the driver is through.
    #[inline(always)]
    pub fn help(&self, work: &mut impl Work) {
        let mut ready = None;
        loop {
            let ticket = self.ticket.load(Ordering::Acquire);
            let (phase, portion) = ((ticket >> 32) as usize, ticket as u32);
            match self.portions.get(phase) {
                None => return,
                Some(&portions) if portion >= portions => spin_loop(),
                Some(_) => {
                    if ready != Some(phase) {
                        work.prepare(phase);
                        ready = Some(phase);
                    }
                    // Whoever gets a portion knows that the phase was open all the while, and what it prepared is right.
                    if let Some(portion) = self.take(phase) {
                        self.portion(work, phase, portion);
                    }
                }
            }
        }
    }

    #[inline(always)]
    fn portion(&self, work: &mut impl Work, phase: usize, portion: usize) {
        let _done = Done(&self.done); // also where the work panics: the driver waits for it
        work.portion(phase, portion);
    }

    /// A portion of this phase, if it is open and has one left.
    #[inline(always)]
    fn take(&self, phase: usize) -> Option<usize> {
        let mut ticket = self.ticket.load(Ordering::Acquire);
        loop {
            if (ticket >> 32) as usize != phase || ticket as u32 >= self.portions[phase] {
                return None;
            }
            match self.ticket.compare_exchange_weak(ticket, ticket + 1, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(ticket as u32 as usize),
                Err(now) => ticket = now,
            }
        }
    }
}

/// Counts a portion as done.
struct Done<'a>(&'a AtomicUsize);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Release);
    }
}

/// Sends the helpers home.
struct Dismiss<'a>(&'a Crew);

impl Drop for Dismiss<'_> {
    fn drop(&mut self) {
        self.0.ticket.store(u64::MAX, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every phase sums what the one before wrote, so a portion that is lost, done twice or done early shows.
    struct Sums<'a> {
        cells: &'a [AtomicU64],
        sum: u64,
    }

    const PORTIONS: usize = 7;

    impl Work for Sums<'_> {
        fn prepare(&mut self, phase: usize) {
            let before = &self.cells[PORTIONS * phase..PORTIONS * (phase + 1)];
            self.sum = before.iter().map(|cell| cell.load(Ordering::Relaxed)).sum();
        }

        fn portion(&mut self, phase: usize, portion: usize) {
            let add = self.sum % 1_000_003 + portion as u64;
            self.cells[PORTIONS * (phase + 1) + portion].fetch_add(add, Ordering::Relaxed);
        }
    }

    fn run(phases: usize, helpers: usize) -> Vec<u64> {
        let cells: Vec<AtomicU64> = (0..PORTIONS * (phases + 1)).map(|i| AtomicU64::new(u64::from(i == 0))).collect();
        let crew = Crew::new(vec![PORTIONS as u32; phases]);
        std::thread::scope(|scope| {
            for _ in 0..helpers {
                scope.spawn(|| crew.help(&mut Sums { cells: &cells, sum: 0 }));
            }
            crew.drive(&mut Sums { cells: &cells, sum: 0 });
        });
        cells.into_iter().map(AtomicU64::into_inner).collect()
    }

    #[test]
    fn any_number_of_threads_does_every_portion_once() {
        let alone = run(500, 0);
        assert!(alone[PORTIONS..].iter().all(|&sum| sum > 0));
        for helpers in [1, 2, 5] {
            assert_eq!(run(500, helpers), alone, "{helpers} helpers");
        }
    }

    #[test]
    fn helpers_that_come_first_wait_for_the_driver() {
        struct Counts<'a>(&'a AtomicUsize);
        impl Work for Counts<'_> {
            fn prepare(&mut self, _: usize) {}
            fn portion(&mut self, _: usize, _: usize) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }
        let (crew, count) = (Crew::new(vec![3; 4]), AtomicUsize::new(0));
        let mut early = 0;
        std::thread::scope(|scope| {
            scope.spawn(|| crew.help(&mut Counts(&count)));
            std::thread::sleep(std::time::Duration::from_millis(20));
            early = count.load(Ordering::Relaxed);
            crew.drive(&mut Counts(&count));
        });
        assert_eq!(early, 0);
        assert_eq!(count.into_inner(), 12);
    }

    #[test]
    fn a_panic_of_the_driver_sends_the_helpers_home() {
        struct Fails(bool);
        impl Work for Fails {
            fn prepare(&mut self, phase: usize) {
                assert!(!self.0 || phase < 3, "in the work");
            }
            fn portion(&mut self, _: usize, _: usize) {}
        }
        let crew = Crew::new(vec![2; 10]);
        std::thread::scope(|scope| {
            let helper = scope.spawn(|| crew.help(&mut Fails(false)));
            let driven = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| crew.drive(&mut Fails(true))));
            assert!(driven.is_err());
            helper.join().expect("it came home");
        });
    }
}
