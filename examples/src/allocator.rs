//! The allocator of the programs: mimalloc.
//!
//! A training step allocates and frees hundreds of megabytes. The system's allocator gives them back and gets cleared pages
//! for them again, which is a quarter of a step's time; mimalloc does so with what lay idle for a second, as it does
//! between the steps of a larger model.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings leave out: milliseconds until freed memory goes back to the
/// system, −1 for never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for later, unless `MIMALLOC_PURGE_DELAY` says otherwise: the process does not get smaller again, and
/// no step of training waits for the same page twice.
pub fn keep_freed_memory() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: options may be set at any time (`mimalloc.h`), and −1 is one of this one's values.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_delay() {
        // SAFETY: reads an option, which may be done at any time.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's default");
        keep_freed_memory();
        assert_eq!(delay(), -1);
    }
}
