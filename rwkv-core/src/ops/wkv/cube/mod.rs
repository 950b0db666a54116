//! WKV on CubeCL backends (wgpu, CUDA): launches the kernels of `kernels.rs`.
//!
//! One unit handles one batch row and channel through all of time, so neighbouring units read neighbouring channels and
//! every access is coalesced. The length is a run-time value: no length compiles a kernel of its own.

mod kernels;

use super::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::{RwkvBackend, inner_dtype};
use burn::tensor::{DType, Shape, Tensor, TensorMetadata, TensorPrimitive};
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};
use cubecl::prelude::*;

/// Units of one cube: a multiple of every GPU's warp, and small, since there are only `B·C` units to spread over the
/// multiprocessors.
const UNITS_PER_CUBE: u32 = 64;

/// wgpu's limit of cubes in one dimension.
const MAX_CUBES: u32 = 65_535;

impl<R, F, I, BT> RwkvBackend for CubeBackend<R, F, I, BT>
where
    R: CubeRuntime,
    F: FloatElement,
    I: IntElement,
    BT: BoolElement,
{
    fn max_tensor_bytes(device: &Self::Device) -> usize {
        let page = R::client(device).properties().memory.max_page_size;
        usize::try_from(page).unwrap_or(usize::MAX)
    }

    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        let WkvInputs { w, u, k, v, state } = inputs;
        let [w, u, k, v, state] = [w, u, k, v, state].map(into_contiguous);
        let [batch, time, channels] = k.shape().dims();
        let (activations, inside) = (k.dtype(), inner_dtype(k.dtype()));

        let like_k = |dtype| empty(&k, [batch, time, channels], dtype);
        let y = like_k(activations);
        let new_state = empty(&k, [batch, 3, channels], inside);
        // Kernel arguments cannot be left out; without a reader one element stands in.
        let lse = if with_lse { like_k(inside) } else { empty(&k, [1, 1, 1], inside) };
        let client = k.client.clone();
        let (count, dim) = launch_size(batch * channels);
        kernels::wkv_forward::launch::<R>(
            &client,
            count,
            dim,
            w.into_tensor_arg(),
            u.into_tensor_arg(),
            k.into_tensor_arg(),
            v.into_tensor_arg(),
            state.into_tensor_arg(),
            y.clone().into_tensor_arg(),
            new_state.clone().into_tensor_arg(),
            lse.clone().into_tensor_arg(),
            with_lse,
            [activations.into(), inside.into()],
        );
        WkvForward { y, state: new_state, lse: with_lse.then_some(lse) }
    }

    fn wkv_backward(saved: WkvSaved<Self>, gy: CubeTensor<R>, adjoint: CubeTensor<R>) -> WkvGradients<Self> {
        let WkvInputs { w, u, k, v, state } = saved.inputs;
        let [w, u, k, v, state, y, lse, gy, adjoint] =
            [w, u, k, v, state, saved.y, saved.lse, gy, adjoint].map(into_contiguous);
        let [batch, time, channels] = k.shape().dims();
        let (activations, inside) = (k.dtype(), inner_dtype(k.dtype()));

        let gk = empty(&k, [batch, time, channels], activations);
        let gv = empty(&k, [batch, time, channels], activations);
        let g_state = empty(&k, [batch, 3, channels], inside);
        // Rows 0 and 1: the decay's and the bonus's gradient from each batch row, summed below.
        let partial = empty(&k, [batch, 2, channels], inside);
        let client = k.client.clone();
        let (count, dim) = launch_size(batch * channels);
        kernels::wkv_backward::launch::<R>(
            &client,
            count,
            dim,
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
            partial.clone().into_tensor_arg(),
            [activations.into(), inside.into()],
        );
        let summed = Tensor::<Self, 3>::from_primitive(TensorPrimitive::Float(partial)).sum_dim(0); // [1, 2, C]
        let row = |i: usize| summed.clone().narrow(1, i, 1).reshape([channels]).into_primitive().tensor();
        WkvGradients { w: row(0), u: row(1), k: gk, v: gv, state: g_state }
    }
}

/// An uninitialised tensor on the device of `like`.
fn empty<R: CubeRuntime>(like: &CubeTensor<R>, shape: [usize; 3], dtype: DType) -> CubeTensor<R> {
    empty_device_contiguous_dtype(like.client.clone(), like.device.clone(), Shape::new(shape), dtype)
}

/// Enough cubes for `units` units, folded into two dimensions where one is not enough.
fn launch_size(units: usize) -> (CubeCount, CubeDim) {
    let cubes = u32::try_from(units.div_ceil(UNITS_PER_CUBE as usize)).expect("fewer than 2³² cubes");
    let x = cubes.min(MAX_CUBES);
    (CubeCount::Static(x, cubes.div_ceil(x), 1), CubeDim::new_1d(UNITS_PER_CUBE))
}
