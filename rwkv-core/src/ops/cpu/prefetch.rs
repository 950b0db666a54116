//! Asking for memory before it is read.

/// Asks for the line of memory that holds this address, where the processor can be asked. The address need not be one of
/// the program's.
#[inline(always)]
pub(in crate::ops) fn prefetch<T>(address: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction, which reads nothing that the program could see and does nothing
        // where there is no memory.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
