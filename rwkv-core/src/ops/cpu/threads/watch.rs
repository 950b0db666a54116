//! Threads that wait, awake, for one thread's calls.
//!
//! Rayon hands work over through a queue, and wakes a thread that sleeps to look into it: a thread of the system more than
//! there are cores, for loops of microseconds. Threads that keep [watch](Watch::stand) look at one place instead.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Where one thread calls and others wait for it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// The call that others may help with, or null.
    call: AtomicPtr<Call<'static>>,
    /// How many calls there were.
    calls: AtomicU64,
    /// Threads that look at the call, or are about to.
    inside: AtomicUsize,
    over: AtomicBool,
}

/// Work for whoever comes, and what it panicked with.
struct Call<'a> {
    help: &'a (dyn Fn() + Sync),
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

thread_local! {
    /// Whether this thread has its part in a watch already, as the one that calls or within a call.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// Says that the calling thread is busy until it is dropped.
pub(super) fn busy() -> impl Drop {
    let before = BUSY.replace(true);
    OnDrop(move || BUSY.set(before))
}

/// Looks at one place before a look elsewhere: some microseconds.
const LOOKS: usize = 128;

impl Watch {
    /// Does `work`, while every thread that keeps watch does `help` once, unless it comes too late.
    ///
    /// # Panics
    /// When `work` or a `help` does.
    pub fn call<T>(&self, work: impl FnOnce() -> T, help: &(dyn Fn() + Sync)) -> T {
        let call = Call { help, panic: Mutex::default() };
        let result = {
            // Also where `work` panics: nobody may look at the call when it is gone.
            let _end = OnDrop(|| self.end());
            let _ = self.calls.fetch_add(1, Ordering::Relaxed);
            self.call.store((&raw const call).cast_mut().cast(), Ordering::SeqCst);
            work()
        };
        if let Some(panic) = call.panic.into_inner().unwrap_or_else(PoisonError::into_inner) {
            resume_unwind(panic);
        }
        result
    }

    /// Takes the call back, and waits for those who look at it.
    fn end(&self) {
        self.call.store(std::ptr::null_mut(), Ordering::SeqCst);
        let mut looks = 0_usize;
        while self.inside.load(Ordering::SeqCst) > 0 {
            std::hint::spin_loop();
            looks += 1;
            if looks.is_multiple_of(LOOKS) {
                std::thread::yield_now(); // with more threads than cores it may be the helper's turn
            }
        }
    }

    /// Helps with every call until the watch is [over](Self::dismiss), and with what others leave in rayon's queues.
    ///
    /// A thread that is [`busy`] leaves at once: it came across this in a queue while it waited for something else, and
    /// those who wait for it would wait for ever.
    pub fn stand(&self) {
        if BUSY.get() {
            return;
        }
        let mut seen = 0;
        while !self.over.load(Ordering::Relaxed) {
            for _ in 0..LOOKS {
                if self.calls.load(Ordering::Relaxed) != seen && !self.call.load(Ordering::Relaxed).is_null() {
                    self.look(&mut seen);
                }
                std::hint::spin_loop();
            }
            let _ = rayon::yield_now();
        }
    }

    /// Helps with the call if there still is one, and notes its number as `seen`.
    fn look(&self, seen: &mut u64) {
        let _busy = busy();
        let _ = self.inside.fetch_add(1, Ordering::SeqCst);
        let _leave = OnDrop(|| {
            let _ = self.inside.fetch_sub(1, Ordering::SeqCst);
        });
        // Where this is not null, the caller has yet to take it back, and will find this thread inside.
        let call = self.call.load(Ordering::SeqCst);
        if call.is_null() {
            return;
        }
        *seen = self.calls.load(Ordering::Relaxed);
        // SAFETY: `call` was put there by `Self::call`, which does not return before it was taken back and nobody is inside;
        // this thread was inside before it read the pointer, and all these accesses have one order.
        let call = unsafe { &*call };
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call.help)) {
            let _ = call.panic.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(panic);
        }
    }

    /// Ends the watch.
    pub fn dismiss(&self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Does something when it goes out of scope.
pub(super) struct OnDrop<F: Fn()>(pub F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Does `work` with a watch that so many threads keep.
    fn with_watch<T>(threads: usize, work: impl FnOnce(&Watch) -> T) -> T {
        let watch = Watch::default();
        std::thread::scope(|scope| {
            let _over = OnDrop(|| watch.dismiss());
            for _ in 0..threads {
                scope.spawn(|| watch.stand());
            }
            work(&watch)
        })
    }

    #[test]
    fn every_watcher_helps_once_at_most() {
        for threads in [0, 1, 3] {
            let most = with_watch(threads, |watch| {
                (0..2_000)
                    .map(|_| {
                        let helped = AtomicUsize::new(0);
                        watch.call(|| (0..100).for_each(|_| std::hint::spin_loop()), &|| {
                            let _ = helped.fetch_add(1, Ordering::Relaxed);
                        });
                        helped.into_inner()
                    })
                    .max()
            });
            assert!(most <= Some(threads), "{most:?} times with {threads} watchers");
        }
    }

    #[test]
    fn a_call_is_over_when_nobody_is_at_it() {
        with_watch(3, |watch| {
            for i in 0..5_000_u64 {
                // On this call's stack: whoever wrote after the end would write into the next call's numbers.
                let numbers: [AtomicU64; 4] = Default::default();
                let next = AtomicUsize::new(0);
                let fill = || {
                    while let Some(number) = numbers.get(next.fetch_add(1, Ordering::Relaxed)) {
                        number.store(i, Ordering::Relaxed);
                    }
                };
                watch.call(fill, &fill);
                assert_eq!(numbers.map(AtomicU64::into_inner), [i; 4]);
            }
        });
    }

    #[test]
    fn whoever_is_busy_does_not_stand() {
        let watch = Watch::default();
        {
            let _busy = busy();
            watch.stand(); // nobody ends it
        }
        assert!(!BUSY.get());
        with_watch(2, |watch| {
            for _ in 0..100 {
                watch.call(|| (), &|| watch.stand());
            }
        });
    }

    #[test]
    fn a_helper_is_waited_for() {
        let done = with_watch(1, |watch| {
            let (started, done) = (AtomicBool::new(false), AtomicBool::new(false));
            let wait = || {
                while !started.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            };
            watch.call(wait, &|| {
                started.store(true, Ordering::Release);
                std::thread::sleep(std::time::Duration::from_millis(30));
                done.store(true, Ordering::Relaxed);
            });
            done.into_inner()
        });
        assert!(done);
    }

    #[test]
    fn panics_reach_the_caller() {
        with_watch(1, |watch| {
            let started = AtomicBool::new(false);
            let wait = || {
                while !started.load(Ordering::Acquire) {
                    std::thread::yield_now();
                }
            };
            let helped = catch_unwind(AssertUnwindSafe(|| {
                watch.call(wait, &|| {
                    started.store(true, Ordering::Release);
                    panic!("in the help");
                });
            }));
            assert_eq!(helped.expect_err("it panicked").downcast_ref(), Some(&"in the help"));
            let worked = catch_unwind(AssertUnwindSafe(|| watch.call(|| panic!("in the work"), &|| ())));
            assert_eq!(worked.map_err(|panic| panic.downcast_ref() == Some(&"in the work")), Err::<(), _>(true));
            assert_eq!(watch.call(|| 3, &|| ()), 3);
        });
    }
}
