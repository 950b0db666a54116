//! The allocator of the programs: mimalloc, by the needs of those that run a model.
//!
//! Running a model takes its weights and little more: memory that lay idle for a second goes back to the system, and there
//! are no huge pages, because one of which a little is used is all resident. A step of training allocates and frees hundreds
//! of megabytes, again and again: see [`for_training`].

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of `mimalloc.h`, which the bindings leave out: milliseconds until freed memory goes back to the
/// system, −1 for never.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;

/// Keeps freed memory for the next step, unless `MIMALLOC_PURGE_DELAY` says otherwise, and asks for huge pages: a twentieth
/// to a seventh of a step's time (`BENCHMARKS.md`). The process does not get smaller again.
pub fn for_training() {
    if std::env::var_os("MIMALLOC_PURGE_DELAY").is_none() {
        // SAFETY: options may be set at any time (`mimalloc.h`), and −1 is one of this one's values.
        unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
    }
    #[cfg(target_os = "linux")]
    {
        let allocated = vec![0_u8; 1 << 20];
        if let Some(area) = mapping(allocated.as_ptr().addr()) {
            let start = std::ptr::with_exposed_provenance_mut(area.start);
            // SAFETY: the range is mapped, and the advice changes nothing but how it is backed. Where it is refused, pages
            // stay small.
            let _ = unsafe { libc::madvise(start, area.len(), libc::MADV_HUGEPAGE) };
        }
    }
}

/// The part of the process's memory around an address that was mapped at once: of mimalloc, the gibibyte that it allocates
/// from at first.
#[cfg(target_os = "linux")]
fn mapping(address: usize) -> Option<std::ops::Range<usize>> {
    let hexadecimal = |digits| usize::from_str_radix(digits, 16).ok();
    std::fs::read_to_string("/proc/self/maps").ok()?.lines().find_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        let range = hexadecimal(start)?..hexadecimal(end)?;
        range.contains(&address).then_some(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_that_of_the_delay() {
        // SAFETY: reads an option, which may be done at any time.
        let delay = || unsafe { libmimalloc_sys::mi_option_get(PURGE_DELAY) };
        assert_eq!(delay(), 1000, "mimalloc's default");
        for_training();
        assert_eq!(delay(), -1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_mapping_is_found_by_an_address_in_it() {
        let allocated = vec![0_u8; 1 << 20];
        let area = mapping(allocated.as_ptr().addr()).expect("it is mapped");
        assert!(area.len() >= allocated.len());
        assert_eq!(mapping(0), None);
    }
}
