//! Whether the processor has the unit and the system lets a program use it.

use std::arch::x86_64::{__cpuid_count, _xgetbv};
use std::sync::OnceLock;

/// Proof that this process may use AMX with `bf16`, and the vectors of AVX-512.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amx(());

impl Amx {
    /// The unit, where there is one. The first call asks the system for it, which holds for all threads.
    pub fn get() -> Option<Self> {
        static FOUND: OnceLock<bool> = OnceLock::new();
        FOUND.get_or_init(|| is_there() && is_permitted()).then_some(Self(()))
    }
}

/// Whether processor and system have it.
fn is_there() -> bool {
    let vectors = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    if !(vectors && is_x86_feature_detected!("xsave")) {
        return false;
    }
    // Leaf 7 says in edx: bit 22 `bf16`, bit 24 tiles. A processor with AVX-512 has this leaf.
    #[allow(unused_unsafe)] // safe from Rust 1.94 on
    // SAFETY: every x86-64 processor has the instruction.
    let edx = unsafe { __cpuid_count(7, 0) }.edx;
    // SAFETY: `xsave` is there and enabled by the system (just seen).
    let enabled = unsafe { enabled_states() };
    edx & (1 << 22) != 0 && edx & (1 << 24) != 0 && enabled >> 17 & 0b11 == 0b11
}

/// What the system keeps of a thread's registers; 17 and 18 are the tiles and their configuration.
#[target_feature(enable = "xsave")]
fn enabled_states() -> u64 {
    // SAFETY: register 0 exists wherever `xsave` is enabled.
    unsafe { _xgetbv(0) }
}

/// Asks Linux for the tiles' registers, which a process does not have by itself.
fn is_permitted() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_long = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_long = 18;
    // SAFETY: this call takes two numbers and touches no memory of the program.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}
