//! WKV's kernels on a CPU backend's tensors.

use super::{Dims, Gradients, Inputs, Saved};
use crate::ops::cpu::tensors::{CpuBackend, read, write};
use crate::ops::wkv::{WkvForward, WkvGradients, WkvInputs, WkvSaved, portable};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, TensorMetadata};

/// The CPU's [`RwkvBackend::wkv_forward`](crate::ops::RwkvBackend::wkv_forward).
pub(in crate::ops) fn wkv_forward<B: CpuBackend>(inputs: WkvInputs<B>, with_lse: bool) -> WkvForward<B> {
    let dtype = inputs.k.dtype();
    if dtype == DType::F64 {
        return portable::forward(inputs, with_lse); // exactness is what f64 is for here, not speed
    }
    let device = B::float_device(&inputs.k);
    let dims = dims::<B>(&inputs.k);
    let [w, u, k, v, state] = [inputs.w, inputs.u, inputs.k, inputs.v, inputs.state].map(read::<B>);
    let (w, u, k, v, state) = (w.as_ref(), u.as_ref(), k.as_ref(), v.as_ref(), state.as_ref());
    let out = super::forward(dims, &Inputs { w, u, k, v, state }, with_lse);
    WkvForward {
        y: write::<B>(out.y, dims.sequence_shape(), dtype, &device),
        state: write::<B>(out.state, dims.state_shape(), DType::F32, &device),
        lse: with_lse.then(|| write::<B>(out.lse, dims.sequence_shape(), DType::F32, &device)),
    }
}

/// The CPU's [`RwkvBackend::wkv_backward`](crate::ops::RwkvBackend::wkv_backward).
pub(in crate::ops) fn wkv_backward<B: CpuBackend>(
    saved: WkvSaved<B>,
    gy: FloatTensor<B>,
    adjoint: FloatTensor<B>,
) -> WkvGradients<B> {
    let dtype = saved.y.dtype();
    if dtype == DType::F64 {
        return portable::backward(saved, gy, adjoint);
    }
    let device = B::float_device(&saved.y);
    let dims = dims::<B>(&saved.y);
    let WkvInputs { w, u, k, v, state } = saved.inputs;
    let [w, u, k, v, state, y, lse, gy, adjoint] = [w, u, k, v, state, saved.y, saved.lse, gy, adjoint].map(read::<B>);
    let Gradients { w, u, k, v, state } = super::backward(
        dims,
        &Saved {
            w: w.as_ref(),
            u: u.as_ref(),
            k: k.as_ref(),
            v: v.as_ref(),
            state: state.as_ref(),
            y: y.as_ref(),
            lse: lse.as_ref(),
            gy: gy.as_ref(),
            adjoint: adjoint.as_ref(),
        },
    );
    WkvGradients {
        w: write::<B>(w, [dims.channels], DType::F32, &device),
        u: write::<B>(u, [dims.channels], DType::F32, &device),
        k: write::<B>(k, dims.sequence_shape(), dtype, &device),
        v: write::<B>(v, dims.sequence_shape(), dtype, &device),
        state: write::<B>(state, dims.state_shape(), DType::F32, &device),
    }
}

fn dims<B: Backend>(sequence: &FloatTensor<B>) -> Dims {
    let [batch, time, channels] = sequence.shape().dims();
    Dims { batch, time, channels }
}
