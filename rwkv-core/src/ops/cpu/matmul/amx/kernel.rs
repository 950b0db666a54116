//! The inner loop: 32 × 32 sums in four of the unit's eight registers.

use super::Amx;
use super::number::Number;
use std::arch::asm;
use std::arch::x86_64::{_mm512_add_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps};
use std::marker::PhantomData;

/// Rows and columns that are summed at once: two registers' each.
pub(super) const SIDE: usize = 2 * ROWS;

/// Rows of a register, of 64 bytes each.
pub(super) const ROWS: usize = 16;

/// Numbers of the depth in a row of a register.
pub(super) const STEP: usize = 32;

/// A register's numbers: [`ROWS`] rows of [`STEP`]. A row is a line of memory: rows across lines take twice as long to load.
#[derive(Clone, Copy)]
#[repr(align(64))]
pub(super) struct Tile(pub [[u32; ROWS]; ROWS]);

/// Where the sums go: rows `stride` apart, `height` by `width` elements.
#[derive(Clone, Copy)]
pub(super) struct Sums {
    pub start: *mut f32,
    pub stride: usize,
    pub height: usize,
    pub width: usize,
    /// Whether they are added to what is there.
    pub add: bool,
}

/// What the registers hold, as the processor reads it: all have sixteen rows of 64 bytes.
#[repr(C, align(64))]
struct Configuration {
    palette: u8,
    first_row: u8,
    reserved: [u8; 14],
    bytes_of_a_row: [u16; 16],
    rows: [u8; 16],
}

static CONFIGURATION: Configuration = {
    let (mut bytes_of_a_row, mut rows) = ([0; 16], [0; 16]);
    let mut register = 0;
    while register < 8 {
        bytes_of_a_row[register] = 64;
        rows[register] = ROWS as u8;
        register += 1;
    }
    Configuration { palette: 1, first_row: 0, reserved: [0; 14], bytes_of_a_row, rows }
};

/// Sums on their way to where they are added.
#[repr(align(64))]
struct Block([[f32; SIDE]; SIDE]);

/// The calling thread's registers, configured until this is dropped.
pub(super) struct Tiles {
    block: Block,
    /// They are of one thread.
    thread: PhantomData<*const ()>,
}

impl Amx {
    /// Configures the calling thread's registers.
    ///
    /// # Safety
    /// The thread has no other [`Tiles`]: the first of them that is dropped would release the registers of both.
    pub(super) unsafe fn configure(self) -> Tiles {
        // SAFETY: the process has the unit (`self`), and the configuration is one of its own. It clears the registers.
        unsafe {
            asm!("ldtilecfg [{}]", in(reg) &raw const CONFIGURATION,
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, readonly));
        }
        Tiles { block: Block([[0.0; SIDE]; SIDE]), thread: PhantomData }
    }
}

impl Drop for Tiles {
    fn drop(&mut self) {
        // SAFETY: they were configured, so the process has them. Empty registers cost a switch of threads nothing.
        unsafe {
            asm!("tilerelease",
                out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                options(nostack, nomem));
        }
    }
}

/// Loads of a part of the rows, or of the columns, into two registers; their halves of a step are so far apart.
macro_rules! rows {
    ($at:literal, $apart:literal) => {
        concat!("tileloadd tmm4, [{a} + {line} + ", $at, "]\ntileloadd tmm5, [{a} + {line} + ", $at, " + ", $apart, "]")
    };
}
macro_rules! columns {
    ($at:literal, $apart:literal) => {
        concat!("tileloadd tmm6, [{b} + {line} + ", $at, "]\ntileloadd tmm7, [{b} + {line} + ", $at, " + ", $apart, "]")
    };
}

/// The four products of what is loaded.
macro_rules! multiply {
    () => {
        "tdpbf16ps tmm0, tmm4, tmm6\ntdpbf16ps tmm1, tmm4, tmm7\ntdpbf16ps tmm2, tmm5, tmm6\ntdpbf16ps tmm3, tmm5, tmm7"
    };
}
/// A request for as much of the next step's columns as a register holds.
macro_rules! fetch {
    ($at:literal) => {
        concat!(
            ".irp at, 0, 64, 128, 192, 256, 320, 384, 448, 512, 576, 640, 704, 768, 832, 896, 960\n",
            "prefetcht0 [{b} + ",
            $at,
            " + \\at]\n.endr",
        )
    };
}

/// Sums into the four registers over all steps, each of which `$step` multiplies; then goes on by so many bytes.
macro_rules! sum {
    ($a:expr, $b:expr, $steps:expr, ($sums:expr, $stride:expr), ($next_a:literal, $next_b:literal), [$($step:expr),* $(,)?]) => {
        asm!(
            "tilezero tmm0",
            "tilezero tmm1",
            "tilezero tmm2",
            "tilezero tmm3",
            "test {steps}, {steps}",
            "jz 3f",
            "2:",
            $($step,)*
            concat!("add {a}, ", $next_a),
            concat!("add {b}, ", $next_b),
            "dec {steps}",
            "jnz 2b",
            "3:",
            "tilestored [{c} + {stride}], tmm0",
            "tilestored [{c} + {stride} + 64], tmm1",
            "tilestored [{c_below} + {stride}], tmm2",
            "tilestored [{c_below} + {stride} + 64], tmm3",
            a = inout(reg) $a.as_ptr() => _,
            b = inout(reg) $b.as_ptr() => _,
            steps = inout(reg) $steps => _,
            line = in(reg) 64_usize,
            c = in(reg) $sums,
            c_below = in(reg) $sums.wrapping_add(ROWS * $stride),
            stride = in(reg) 4 * $stride,
            out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
            out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
            options(nostack),
        )
    };
}

impl Tiles {
    /// Writes the sums of the products of these rows and columns. They are summed from zero on also where they are added to
    /// what is there: a sum of sums is more exact than one long sum.
    ///
    /// # Panics
    /// When they are not as deep as each other.
    ///
    /// # Safety
    /// `sums.height` rows of `sums.width` elements may be written from `sums.start` on; they were where `sums.add`.
    pub unsafe fn times<A: Number, B: Number>(&mut self, rows: &[Tile], columns: &[Tile], sums: Sums) {
        if (sums.height, sums.width, sums.add) == (SIDE, SIDE, false) {
            // SAFETY: the caller's contract.
            return unsafe { whole::<A, B>(rows, columns, sums.start, sums.stride) };
        }
        // SAFETY: the block has all these elements; then the caller's contract, and AVX-512 is there where AMX is (`Amx::get`).
        unsafe {
            whole::<A, B>(rows, columns, self.block.0.as_mut_ptr().cast(), SIDE);
            sums.put(&self.block);
        }
    }
}

/// Writes 32 × 32 sums, rows `stride` apart.
///
/// # Safety
/// They may be written, and the calling thread's registers are configured.
unsafe fn whole<A: Number, B: Number>(a: &[Tile], b: &[Tile], sums: *mut f32, stride: usize) {
    let steps = a.len() / (2 * A::PARTS);
    assert_eq!(b.len(), 2 * B::PARTS * steps, "factors that are not as deep as each other");
    // SAFETY: the registers are configured (the caller's contract) as 16 rows of 64 bytes. Each turn reads a step's tiles of
    // both slices, which have so many (asserted). The sums are written in elements that may be.
    unsafe {
        match (A::PARTS, B::PARTS) {
            // The small products first, each with one factor that is still there.
            (3, 3) => sum!(
                a,
                b,
                steps,
                (sums, stride),
                (6144, 6144),
                [
                    rows!(2048, 3072),
                    columns!(0, 3072),
                    fetch!(6144),
                    multiply!(),
                    rows!(1024, 3072),
                    fetch!(7168),
                    multiply!(),
                    columns!(1024, 3072),
                    fetch!(8192),
                    multiply!(),
                    rows!(0, 3072),
                    fetch!(9216),
                    multiply!(),
                    columns!(2048, 3072),
                    fetch!(10240),
                    multiply!(),
                    columns!(0, 3072),
                    fetch!(11264),
                    multiply!(),
                ]
            ),
            (3, 2) => sum!(
                a,
                b,
                steps,
                (sums, stride),
                (6144, 4096),
                [
                    rows!(2048, 3072),
                    columns!(0, 2048),
                    fetch!(4096),
                    multiply!(),
                    rows!(1024, 3072),
                    fetch!(5120),
                    multiply!(),
                    columns!(1024, 2048),
                    fetch!(6144),
                    multiply!(),
                    rows!(0, 3072),
                    fetch!(7168),
                    multiply!(),
                    columns!(0, 2048),
                    multiply!(),
                ]
            ),
            (3, 1) => sum!(
                a,
                b,
                steps,
                (sums, stride),
                (6144, 2048),
                [
                    rows!(2048, 3072),
                    columns!(0, 1024),
                    fetch!(2048),
                    multiply!(),
                    rows!(1024, 3072),
                    fetch!(3072),
                    multiply!(),
                    rows!(0, 3072),
                    multiply!(),
                ]
            ),
            (1, 1) => sum!(
                a,
                b,
                steps,
                (sums, stride),
                (2048, 2048),
                [rows!(0, 1024), columns!(0, 1024), fetch!(2048), fetch!(3072), multiply!(),]
            ),
            parts => unreachable!("numbers of {parts:?} parts"),
        }
    }
}

impl Sums {
    /// Puts or adds the block's rows where they belong.
    ///
    /// # Safety
    /// The contract of [`Tiles::times`], and the processor has AVX-512.
    #[target_feature(enable = "avx512f")]
    unsafe fn put(self, block: &Block) {
        for (i, numbers) in block.0[..self.height].iter().enumerate() {
            for (j, numbers) in numbers.as_chunks::<ROWS>().0.iter().enumerate() {
                let width = self.width.saturating_sub(j * ROWS).min(ROWS);
                let mask = ((1_u32 << width) - 1) as u16;
                // SAFETY: the masked elements are among those of the caller's contract, and may be written and, where they are
                // added, read; the array has the 64 bytes of a vector.
                unsafe {
                    let place = self.start.wrapping_add(i * self.stride + j * ROWS);
                    let before = _mm512_maskz_loadu_ps(if self.add { mask } else { 0 }, place);
                    let numbers = _mm512_loadu_ps(numbers.as_ptr());
                    _mm512_mask_storeu_ps(place, mask, _mm512_add_ps(before, numbers));
                }
            }
        }
    }
}
