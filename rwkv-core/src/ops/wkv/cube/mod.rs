//! WKV on CubeCL backends (wgpu, CUDA): launches the kernels of `forward.rs` and `backward.rs`.
//!
//! A unit takes a batch row and channel through all of time, so neighbouring units read neighbouring channels and every
//! access is coalesced. That is `B·C` units, too few to fill a large GPU. Time is then cut into chunks, in three launches:
//!
//! 1. every chunk but the last is reduced to what it adds to the state, all chunks at once;
//! 2. a scan over these summaries gives each chunk the state that it starts from;
//! 3. the kernel of the whole sequence runs on every chunk from there.
//!
//! The backward pass is the mirror image, with the adjoints in the place of the state. What it costs, in bytes an element
//! `(b, t, c)` of `f32`, where memory is the limit:
//!
//! | | launches | bytes | exponentials | flops |
//! |---|---|---|---|---|
//! | forward, whole | 1 | 12, 16 with the log-denominators | 2 | 16 |
//! | forward, in chunks | 3 | 20, 24 | 3 | 25 |
//! | backward, whole | 2 | 28 | 3 | 30 |
//! | backward, in chunks | 4 | 40 | 4 | 45 |
//!
//! # Source
//! Reference §5.3 and §5.4.

mod backward;
pub(in crate::ops) mod forward;

use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::{NARROWEST_PLANE, elements, empty};
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

/// Units that a GPU is to be given: about as many as fit on a large one at once.
const UNITS_WANTED: usize = 1 << 17;

/// A shorter chunk would spend its time on the scan.
const SHORTEST_CHUNK: usize = 32;

/// How many tokens a unit best takes through, for keys like these, `[B, T, C]`: all of them, where there are units enough.
#[must_use]
pub fn chunk_length<R: CubeRuntime>(k: &CubeTensor<R>) -> usize {
    let [batch, time, channels] = k.shape().dims();
    if k.client.properties().hardware.plane_size_max < NARROWEST_PLANE {
        return time;
    }
    let chunks = (UNITS_WANTED / (batch * channels)).clamp(1, time.div_ceil(SHORTEST_CHUNK));
    time.div_ceil(chunks)
}

/// [`RwkvBackend::wkv_forward`](crate::ops::RwkvBackend::wkv_forward) in chunks of `chunk` tokens, of which the last may be
/// shorter.
///
/// # Panics
/// When `chunk` is zero.
#[must_use]
pub fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    inputs: WkvInputs<CubeBackend<R, F, I, BT>>,
    with_lse: bool,
    chunk: usize,
) -> WkvForward<CubeBackend<R, F, I, BT>> {
    let WkvInputs { w, u, k, v, state } = inputs;
    let [w, u, k, v, state] = [w, u, k, v, state].map(into_contiguous);
    let [batch, time, channels] = k.shape().dims();
    let (activations, inside) = (k.dtype, inner_dtype(k.dtype));
    let client = k.client.clone();
    let dtypes = || [activations.into(), inside.into()];
    let chunks = time.div_ceil(chunk);

    let starts = if chunks == 1 {
        state
    } else {
        let summaries = empty(&k, [batch * chunks, 3, channels], inside);
        let starts = empty(&k, [batch * chunks, 3, channels], inside);
        let (cubes, units) = elements(batch * chunks * channels);
        forward::summarise::launch::<R>(
            &client,
            cubes,
            units,
            w.clone().into_tensor_arg(),
            k.clone().into_tensor_arg(),
            v.clone().into_tensor_arg(),
            summaries.clone().into_tensor_arg(),
            chunk,
            dtypes(),
        );
        let (cubes, units) = elements(batch * channels);
        forward::scan::launch::<R>(
            &client,
            cubes,
            units,
            w.clone().into_tensor_arg(),
            state.into_tensor_arg(),
            summaries.into_tensor_arg(),
            starts.clone().into_tensor_arg(),
            chunk,
            inside.into(),
        );
        starts
    };

    let y = empty(&k, [batch, time, channels], activations);
    let new_state = empty(&k, [batch, 3, channels], inside);
    // Kernel arguments cannot be left out; without a reader one element stands in.
    let lse = empty(&k, if with_lse { [batch, time, channels] } else { [1, 1, 1] }, inside);
    let (cubes, units) = elements(batch * chunks * channels);
    forward::run::launch::<R>(
        &client,
        cubes,
        units,
        w.into_tensor_arg(),
        u.into_tensor_arg(),
        k.into_tensor_arg(),
        v.into_tensor_arg(),
        starts.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        new_state.clone().into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        chunk,
        with_lse,
        dtypes(),
    );
    WkvForward { y, state: new_state, lse: with_lse.then_some(lse) }
}

/// [`RwkvBackend::wkv_backward`](crate::ops::RwkvBackend::wkv_backward) in chunks of `chunk` tokens, of which the last may
/// be shorter.
///
/// # Panics
/// When `chunk` is zero.
#[must_use]
pub fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    saved: WkvSaved<CubeBackend<R, F, I, BT>>,
    gy: CubeTensor<R>,
    adjoint: CubeTensor<R>,
    chunk: usize,
) -> WkvGradients<CubeBackend<R, F, I, BT>> {
    let WkvInputs { w, u, k, v, state } = saved.inputs;
    let [w, u, k, v, state, y, lse, gy, adjoint] =
        [w, u, k, v, state, saved.y, saved.lse, gy, adjoint].map(into_contiguous);
    let [batch, time, channels] = k.shape().dims();
    let (activations, inside) = (k.dtype, inner_dtype(k.dtype));
    let client = k.client.clone();
    let dtypes = || [activations.into(), inside.into()];
    let chunks = time.div_ceil(chunk);

    let ends = if chunks == 1 {
        adjoint
    } else {
        let summaries = empty(&k, [batch * chunks, 5, channels], inside);
        let ends = empty(&k, [batch * chunks, 5, channels], inside);
        let (cubes, units) = elements(batch * chunks * channels);
        backward::summarise::launch::<R>(
            &client,
            cubes,
            units,
            w.clone().into_tensor_arg(),
            y.clone().into_tensor_arg(),
            lse.clone().into_tensor_arg(),
            gy.clone().into_tensor_arg(),
            summaries.clone().into_tensor_arg(),
            chunk,
            dtypes(),
        );
        let (cubes, units) = elements(batch * channels);
        backward::scan::launch::<R>(
            &client,
            cubes,
            units,
            w.clone().into_tensor_arg(),
            adjoint.into_tensor_arg(),
            summaries.into_tensor_arg(),
            ends.clone().into_tensor_arg(),
            time,
            chunk,
            inside.into(),
        );
        ends
    };

    let [gk, gv] = [(); 2].map(|()| empty(&k, [batch, time, channels], activations));
    let g_state = empty(&k, [batch, 3, channels], inside);
    // The gradients of the decay and the bonus from each batch row and chunk, summed below.
    let [gw, gu] = [(); 2].map(|()| empty(&k, [batch * chunks, channels], inside));
    let (cubes, units) = elements(batch * chunks * channels);
    backward::run::launch::<R>(
        &client,
        cubes,
        units,
        w.into_tensor_arg(),
        u.into_tensor_arg(),
        k.into_tensor_arg(),
        v.into_tensor_arg(),
        state.into_tensor_arg(),
        y.into_tensor_arg(),
        lse.into_tensor_arg(),
        gy.into_tensor_arg(),
        ends.into_tensor_arg(),
        gk.clone().into_tensor_arg(),
        gv.clone().into_tensor_arg(),
        g_state.clone().into_tensor_arg(),
        gw.clone().into_tensor_arg(),
        gu.clone().into_tensor_arg(),
        chunk,
        chunks > 1,
        dtypes(),
    );
    let mut sums = sum_groups(vec![gw, gu], [channels], inside).into_iter();
    let mut next = || sums.next().expect("a sum for each");
    WkvGradients { w: next(), u: next(), k: gk, v: gv, state: g_state }
}
