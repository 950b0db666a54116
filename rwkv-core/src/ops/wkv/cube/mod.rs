//! WKV on CubeCL backends (wgpu, CUDA): launches the kernels of `forward.rs` and `backward.rs`.
//!
//! A unit takes a batch row and channel, its sequence, through time: neighbouring units read neighbouring channels, so every
//! access is coalesced. On a GPU a unit asks for several tokens at once, and for the next ones before it computes, so that
//! memory works meanwhile.
//!
//! That is `B·C` units, too few to fill a large GPU. Then several units share a sequence ([`Cut`]), and a cube walks through
//! time in windows, of which each of these units takes a segment:
//!
//! 1. every unit computes what its segment adds to the state, from the tokens that it holds;
//! 2. a scan in shared memory gives each the state that its segment starts from;
//! 3. it goes through the same tokens again from there, and the last state is the next window's first.
//!
//! The backward pass is the mirror image, with the adjoints in the place of the state. Either way every number is read and
//! written once. What an element `(b, t, c)` of `f32` costs, with `S` units for a sequence that take `L` tokens at a time:
//!
//! | | launches | bytes | exponentials | flops |
//! |---|---|---|---|---|
//! | forward, alone | 1 | 12, 16 with the log-denominators | 2 | 16 |
//! | forward, shared | 1 | as above | 3 + 2·(log₂ S)/L | 25 + 15·(log₂ S)/L |
//! | backward, alone | 2 | 28 | 3 | 30 |
//! | backward, shared | 2 | 28 | 4 + 2·(log₂ S)/L | 45 + 25·(log₂ S)/L |
//!
//! # Source
//! Reference §5.3 and §5.4; the scan is that of Hillis and Steele (1986).

mod adjoints;
mod backward;
mod cut;
pub(in crate::ops) mod forward;

pub use cut::Cut;

use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::cube::columns::sum_groups;
use crate::ops::cube::empty;
use crate::ops::inner_dtype;
use burn::tensor::TensorMetadata;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

/// Tokens that a unit asks for at once, two numbers each.
pub const FORWARD_TOKENS: usize = 16;

/// Tokens that a unit asks for at once, five numbers each.
pub const BACKWARD_TOKENS: usize = 8;

/// [`RwkvBackend::wkv_forward`](crate::ops::RwkvBackend::wkv_forward) with the sequences cut like this.
#[must_use]
pub fn forward<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    inputs: WkvInputs<CubeBackend<R, F, I, BT>>,
    with_lse: bool,
    cut: Cut,
) -> WkvForward<CubeBackend<R, F, I, BT>> {
    let WkvInputs { w, u, k, v, state } = inputs;
    let [w, u, k, v, state] = [w, u, k, v, state].map(into_contiguous);
    let [batch, time, channels] = k.shape().dims();
    let (activations, inside) = (k.dtype, inner_dtype(k.dtype));
    let y = empty(&k, [batch, time, channels], activations);
    let new_state = empty(&k, [batch, 3, channels], inside);
    // Kernel arguments cannot be left out; without a reader one element stands in.
    let lse = empty(&k, if with_lse { [batch, time, channels] } else { [1, 1, 1] }, inside);
    let (cubes, units) = cut.launch(batch * channels);
    forward::run::launch::<R>(
        &k.client.clone(),
        cubes,
        units,
        w.into_tensor_arg(),
        u.into_tensor_arg(),
        k.into_tensor_arg(),
        v.into_tensor_arg(),
        state.into_tensor_arg(),
        y.clone().into_tensor_arg(),
        new_state.clone().into_tensor_arg(),
        lse.clone().into_tensor_arg(),
        cut,
        with_lse,
        [activations.into(), inside.into()],
    );
    WkvForward { y, state: new_state, lse: with_lse.then_some(lse) }
}

/// [`RwkvBackend::wkv_backward`](crate::ops::RwkvBackend::wkv_backward) with the sequences cut like this.
#[must_use]
pub fn backward<R: CubeRuntime, F: FloatElement, I: IntElement, BT: BoolElement>(
    saved: WkvSaved<CubeBackend<R, F, I, BT>>,
    gy: CubeTensor<R>,
    adjoint: CubeTensor<R>,
    cut: Cut,
) -> WkvGradients<CubeBackend<R, F, I, BT>> {
    let WkvInputs { w, u, k, v, state } = saved.inputs;
    let [w, u, k, v, state, y, lse, gy, adjoint] =
        [w, u, k, v, state, saved.y, saved.lse, gy, adjoint].map(into_contiguous);
    let [batch, time, channels] = k.shape().dims();
    let (activations, inside) = (k.dtype, inner_dtype(k.dtype));
    let [gk, gv] = [(); 2].map(|()| empty(&k, [batch, time, channels], activations));
    let g_state = empty(&k, [batch, 3, channels], inside);
    // The gradients of the decay and the bonus from each unit, summed below.
    let [gw, gu] = [(); 2].map(|()| empty(&k, [batch * cut.segments, channels], inside));
    let (cubes, units) = cut.launch(batch * channels);
    backward::run::launch::<R>(
        &k.client.clone(),
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
        adjoint.into_tensor_arg(),
        gk.clone().into_tensor_arg(),
        gv.clone().into_tensor_arg(),
        g_state.clone().into_tensor_arg(),
        gw.clone().into_tensor_arg(),
        gu.clone().into_tensor_arg(),
        cut,
        [activations.into(), inside.into()],
    );
    let mut sums = sum_groups(vec![gw, gu], [channels], inside);
    let u = sums.remove(1);
    WkvGradients { w: sums.remove(0), u, k: gk, v: gv, state: g_state }
}
