//! Work for all of rayon's threads, in portions of microseconds.
//!
//! A pass through a model is hundreds of short parallel loops with a little of one thread's work between them. A thread that
//! fell asleep in between takes some 50 µs to wake up, which is longer than most of the loops; so for the time of a pass the
//! threads stay awake ([`awake`]) and watch for the loops of the thread that makes it ([`Watch`]). How many there are is
//! rayon's affair: `RAYON_NUM_THREADS`, or the pool that the caller installed.

mod watch;

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use watch::{OnDrop, Watch, busy};

/// Calls `work` on every item, on all threads: each takes the next item as soon as it is done with one.
pub(super) fn for_each<T: Send>(items: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
    let helpers = rayon::current_num_threads().min(items.size_hint().1.unwrap_or(usize::MAX)).saturating_sub(1);
    if helpers == 0 {
        return items.for_each(work);
    }
    let items = Mutex::new(items);
    let next = || items.lock().unwrap_or_else(PoisonError::into_inner).next();
    let drain = || {
        while let Some(item) = next() {
            work(item);
        }
    };
    // Taken for the time of the call: a loop inside of this one's items asks rayon.
    if let Some(watch) = WATCH.take() {
        let _keep = OnDrop(|| WATCH.set(Some(watch.clone())));
        return watch.call(drain, &drain);
    }
    rayon::in_place_scope(|scope| {
        (0..helpers).for_each(|_| scope.spawn(|_| drain()));
        drain();
    });
}

/// Whether some call of [`awake`] keeps the threads awake.
static AWAKE: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// The watch that rayon's threads keep for this one.
    static WATCH: RefCell<Option<Arc<Watch>>> = const { RefCell::new(None) };
}

/// Does `work` while rayon's other threads wait for its loops without falling asleep.
pub(in crate::ops) fn awake<T>(work: impl FnOnce() -> T) -> T {
    let helpers = rayon::current_num_threads().saturating_sub(1);
    if helpers == 0 || AWAKE.swap(true, Ordering::Relaxed) {
        return work();
    }
    // When the threads have left, and not before: the next watch would keep them in this one's scope.
    let _free = OnDrop(|| AWAKE.store(false, Ordering::Relaxed));
    let _busy = busy();
    let watch = Arc::new(Watch::default());
    rayon::in_place_scope(|scope| {
        // Also where `work` panics: the scope waits for the threads that wait for this.
        let _over = OnDrop(|| {
            watch.dismiss();
            WATCH.set(None);
        });
        for _ in 0..helpers {
            scope.spawn(|_| watch.stand());
        }
        WATCH.set(Some(watch.clone()));
        work()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    #[test]
    fn every_item_is_worked_on_once() {
        for threads in [1, 2, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let mut numbers = vec![0usize; 1000];
            pool.install(|| awake(|| for_each(numbers.iter_mut().enumerate(), |(i, number)| *number += i + 1)));
            assert!(numbers.iter().enumerate().all(|(i, number)| *number == i + 1));
        }
        let sum = AtomicUsize::new(0); // from a thread that is not rayon's
        awake(|| {
            for_each(0..100, |i| {
                let _ = sum.fetch_add(i, Ordering::Relaxed);
            });
        });
        assert_eq!(sum.into_inner(), 4950);
    }

    #[test]
    fn loops_in_loops_and_watches_in_watches_end() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sum = AtomicUsize::new(0);
        let count = || {
            for_each(0..10, |i| {
                for_each(0..10, |j| {
                    let _ = sum.fetch_add(i * j, Ordering::Relaxed);
                });
            });
        };
        pool.install(|| awake(|| awake(count)));
        awake(count);
        assert_eq!(sum.into_inner(), 2 * 45 * 45);
    }

    /// Whether threads watch for this one sooner or later: other tests have them now and then.
    fn is_watched() -> bool {
        (0..10_000).any(|_| {
            let watched = awake(|| WATCH.with_borrow(Option::is_some));
            if !watched {
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            watched
        })
    }

    #[test]
    fn a_panic_ends_the_watch() {
        assert!(rayon::current_num_threads() < 2 || is_watched());
        let panicked = std::panic::catch_unwind(|| awake(|| panic!("in the work")));
        assert!(panicked.is_err());
        for _ in 0..100 {
            let panicked = std::panic::catch_unwind(|| awake(|| for_each(0..10, |i| assert_ne!(i, 7))));
            assert!(panicked.is_err());
        }
        assert!(rayon::current_num_threads() < 2 || is_watched());
        assert!(WATCH.with_borrow(Option::is_none));
        let panicked = std::panic::catch_unwind(|| for_each(0..10, |i| assert_ne!(i, 7)));
        assert!(panicked.is_err());
    }

    #[test]
    fn a_watch_outlives_a_loop_that_panics() {
        let caught = awake(|| {
            let before = WATCH.with_borrow(Option::is_some);
            let panicked = std::panic::catch_unwind(|| for_each(0..10, |i| assert_ne!(i, 7)));
            (panicked.is_err(), before == WATCH.with_borrow(Option::is_some))
        });
        assert_eq!(caught, (true, true));
    }

    #[test]
    fn many_callers_at_once_all_finish() {
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..200 {
                        let sum = AtomicUsize::new(0);
                        awake(|| {
                            for_each(0..20, |i| {
                                let _ = sum.fetch_add(i, Ordering::Relaxed);
                            });
                        });
                        assert_eq!(sum.into_inner(), 190);
                    }
                });
            }
        });
    }
}
