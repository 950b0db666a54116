//! What the native CPU kernels of all operations share: vectors, threads and the way to a backend's tensors.
//!
//! A kernel is a plain function on contiguous `f32` slices. It cuts its work into tasks that share nothing but what they
//! read; [`run`] spreads them over rayon's threads (`threads/`). What is summed in one go depends on sizes alone, and partial sums are
//! added up in the tasks' order, so results do not depend on the number of threads.

pub(super) mod columns;
#[cfg(feature = "flex")]
mod flex;
pub(super) mod fresh;
pub(super) mod lanes;
pub(super) mod matmul;
#[cfg(feature = "ndarray")]
mod ndarray;
pub(super) mod over;
pub(super) mod prefetch;
pub(super) mod tensors;
pub(super) mod threads;
#[cfg(target_arch = "x86_64")]
pub(super) mod transpose;
pub(super) mod vectors;

use std::marker::PhantomData;

/// The methods of [`RwkvBackend`](super::RwkvBackend) on a backend whose tensors are in main memory.
macro_rules! cpu_operations {
    () => {
        const IN_MAIN_MEMORY: bool = true;

        fn burst<T>(work: impl FnOnce() -> T) -> T {
            $crate::ops::cpu::threads::awake(work)
        }

        fn wkv_forward(
            inputs: $crate::ops::wkv::WkvInputs<Self>,
            with_lse: bool,
        ) -> $crate::ops::wkv::WkvForward<Self> {
            $crate::ops::wkv::cpu::wkv_forward(inputs, with_lse)
        }

        fn wkv_backward(
            saved: $crate::ops::wkv::WkvSaved<Self>,
            gy: FloatTensor<Self>,
            adjoint: FloatTensor<Self>,
        ) -> $crate::ops::wkv::WkvGradients<Self> {
            $crate::ops::wkv::cpu::wkv_backward(saved, gy, adjoint)
        }

        fn token_shift_forward(
            x: FloatTensor<Self>,
            last: FloatTensor<Self>,
            mu: Vec<FloatTensor<Self>>,
        ) -> Vec<FloatTensor<Self>> {
            $crate::ops::token_shift::cpu::forward::<Self>(x, last, mu)
        }

        fn token_shift_backward(
            x: FloatTensor<Self>,
            last: FloatTensor<Self>,
            passed: Vec<(FloatTensor<Self>, FloatTensor<Self>)>,
        ) -> $crate::ops::token_shift::TokenShiftGradients<Self> {
            $crate::ops::token_shift::cpu::backward::<Self>(x, last, passed)
        }

        fn layer_norm_forward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            bias: FloatTensor<Self>,
            epsilon: f64,
        ) -> FloatTensor<Self> {
            $crate::ops::layer_norm::cpu::forward::<Self>(x, weight, bias, epsilon)
        }

        fn layer_norm_backward(
            x: FloatTensor<Self>,
            weight: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            epsilon: f64,
        ) -> [FloatTensor<Self>; 3] {
            $crate::ops::layer_norm::cpu::backward::<Self>(x, weight, grad, epsilon)
        }

        fn gate_forward(r: FloatTensor<Self>, y: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::gate::cpu::forward::<Self>(r, y)
        }

        fn gate_backward(
            r: FloatTensor<Self>,
            y: FloatTensor<Self>,
            grad: FloatTensor<Self>,
        ) -> [FloatTensor<Self>; 2] {
            $crate::ops::gate::cpu::backward::<Self>(r, y, grad)
        }

        fn squared_relu_forward(x: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::squared_relu::cpu::forward::<Self>(x)
        }

        fn squared_relu_backward(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::squared_relu::cpu::backward::<Self>(x, grad)
        }

        fn adam(
            updates: Vec<$crate::ops::adam::AdamUpdate<Self>>,
            norm: FloatTensor<Self>,
        ) -> Vec<[FloatTensor<Self>; 3]> {
            $crate::ops::adam::cpu::updates(updates, norm)
        }

        fn sum_of_squares(tensors: Vec<FloatTensor<Self>>) -> FloatTensor<Self> {
            $crate::ops::sum_of_squares::cpu::squares::<Self>(tensors)
        }

        fn linear_forward(x: FloatTensor<Self>, weight: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::linear::cpu::forward::<Self>(x, weight)
        }

        fn linear_backward_x(weight: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::linear::cpu::backward_x::<Self>(weight, grad)
        }

        fn linear_backward_weight(x: FloatTensor<Self>, grad: FloatTensor<Self>) -> FloatTensor<Self> {
            $crate::ops::linear::cpu::backward_weight::<Self>(x, grad)
        }

        fn has_decode_step(_device: &Self::Device) -> bool {
            true
        }

        fn decode_step(
            inputs: $crate::ops::decode::DecodeInputs<'_, Self>,
        ) -> Option<$crate::ops::decode::DecodeOutputs<Self>> {
            $crate::ops::decode::cpu::step::<Self>(inputs)
        }

        fn packed_linear_forward(
            x: FloatTensor<Self>,
            weight: &$crate::ops::packed::PackedMatrix,
        ) -> FloatTensor<Self> {
            $crate::ops::packed::cpu::forward::<Self>(x, weight)
        }

        fn cross_entropy_forward(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
            _l2_wrap: f32,
        ) -> (FloatTensor<Self>, FloatTensor<Self>) {
            $crate::ops::cross_entropy::cpu::forward::<Self>(logits, targets)
        }

        fn cross_entropy_backward(
            logits: FloatTensor<Self>,
            targets: IntTensor<Self>,
            lse: FloatTensor<Self>,
            grad: FloatTensor<Self>,
            l2_wrap: f32,
        ) -> FloatTensor<Self> {
            $crate::ops::cross_entropy::cpu::backward::<Self>(logits, targets, lse, grad, l2_wrap)
        }
    };
}
use cpu_operations;

/// Below this many elements a task switch costs more than the work that it spreads.
const PARALLEL_ELEMENTS: usize = 1 << 14;

/// Rows of a matrix that one task handles.
pub(super) const ROWS: usize = 64;

/// Elements of a tensor that one task handles, where rows do not matter.
pub(super) const CHUNK: usize = 1 << 13;

/// What one task does. The method has `#[inline(always)]`, which closures and function pointers cannot have: only what is
/// inlined into [`Call::with_simd`] is compiled for the processor's vector instructions.
pub(super) trait Kernel<C, T> {
    /// Does the work of `item`; `context` is what all tasks share, `simd` the instruction set.
    fn run<S: pulp::Simd>(simd: S, context: &C, item: T);
}

/// A type that stands for a function with `#[inline(always)]` as a [`Kernel`]; with `on simd`, one that takes the
/// instruction set as its first argument.
macro_rules! kernel {
    ($name:ident = $function:ident<$($lifetime:lifetime),*>($context:ty, $item:ty)) => {
        $crate::ops::cpu::kernel!(@ $name, [$($lifetime),*], $context, $item, |_simd, context, item| $function(context, item));
    };
    ($name:ident on simd = $function:ident<$($lifetime:lifetime),*>($context:ty, $item:ty)) => {
        $crate::ops::cpu::kernel!(@ $name, [$($lifetime),*], $context, $item, |simd, context, item| $function(simd, context, item));
    };
    (@ $name:ident, [$($lifetime:lifetime),*], $context:ty, $item:ty, |$simd:ident, $shared:ident, $one:ident| $call:expr) => {
        struct $name;

        impl<$($lifetime),*> $crate::ops::cpu::Kernel<$context, $item> for $name {
            #[inline(always)]
            fn run<S: pulp::Simd>($simd: S, $shared: &$context, $one: $item) {
                $call;
            }
        }
    };
}
pub(super) use kernel;

/// Runs the kernel on each of `tasks`, which touch `elements` elements in all, with the widest vector instructions there
/// are.
pub(super) fn run<K: Kernel<C, T>, C: Sync, T: Send>(
    _: K,
    elements: usize,
    tasks: impl IntoIterator<Item = T, IntoIter: Send>,
    context: &C,
) {
    let arch = pulp::Arch::new();
    let run = |item: T| arch.dispatch(Call::<K, C, T> { context, item, kernel: PhantomData });
    if elements < PARALLEL_ELEMENTS {
        tasks.into_iter().for_each(run);
    } else {
        threads::for_each(tasks.into_iter(), run);
    }
}

/// One call, to be made where the instruction set is known.
struct Call<'a, K, C, T> {
    context: &'a C,
    item: T,
    kernel: PhantomData<fn(K)>,
}

impl<K: Kernel<C, T>, C, T> pulp::WithSimd for Call<'_, K, C, T> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: pulp::Simd>(self, simd: S) {
        K::run(simd, self.context, self.item);
    }
}

/// Calls a test, a function of a name and `impl Simd`, with every instruction set that this processor has, and says which ones
/// it has not.
#[cfg(test)]
macro_rules! with_every_instruction_set {
    ($test:ident) => {{
        $test("single numbers", pulp::Scalar);
        $test("plain arithmetic on 128 bits", pulp::Scalar128b);
        #[cfg(target_arch = "x86_64")]
        {
            pulp::x86::V3::try_new().map_or_else(|| println!("SKIPPED: no AVX2"), |simd| $test("AVX2", simd));
            pulp::x86::V4::try_new().map_or_else(|| println!("SKIPPED: no AVX-512"), |simd| $test("AVX-512", simd));
        }
        #[cfg(target_arch = "aarch64")]
        pulp::aarch64::Neon::try_new().map_or_else(|| println!("SKIPPED: no NEON"), |simd| $test("NEON", simd));
    }};
}
#[cfg(test)]
pub(super) use with_every_instruction_set;

/// The sum of the rows of a matrix of this width, from the first row to the last.
pub(super) fn sum_rows(matrix: &[f32], width: usize) -> Vec<f32> {
    let mut sum = vec![0.0; width];
    for row in matrix.chunks_exact(width) {
        sum.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    sum
}
