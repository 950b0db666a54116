//! From a CPU backend's tensors to the kernels' slices and back: the same for every CPU backend.

use super::{Dims, Gradients, Inputs, Saved};
use crate::ops::wkv::{WkvForward, WkvGradients, WkvInputs, WkvSaved, portable};
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, FloatDType, TensorData, TensorMetadata};

/// A backend whose tensors are in main memory.
pub(in crate::ops::wkv) trait CpuBackend: Backend {
    /// A tensor's elements, in row-major order without gaps.
    type Buffer: AsRef<[f32]>;

    /// Reads a tensor of dtype `f32`, without a copy where its layout allows it.
    fn read(tensor: FloatTensor<Self>) -> Self::Buffer;
}

/// The CPU's [`RwkvBackend::wkv_forward`](crate::ops::RwkvBackend::wkv_forward).
pub(in crate::ops::wkv) fn forward<B: CpuBackend>(inputs: WkvInputs<B>, with_lse: bool) -> WkvForward<B> {
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
        y: cast::<B>(write::<B>(out.y, dims.sequence_shape(), &device), dtype),
        state: write::<B>(out.state, dims.state_shape(), &device),
        lse: with_lse.then(|| write::<B>(out.lse, dims.sequence_shape(), &device)),
    }
}

/// The CPU's [`RwkvBackend::wkv_backward`](crate::ops::RwkvBackend::wkv_backward).
pub(in crate::ops::wkv) fn backward<B: CpuBackend>(
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
        w: write::<B>(w, vec![dims.channels], &device),
        u: write::<B>(u, vec![dims.channels], &device),
        k: cast::<B>(write::<B>(k, dims.sequence_shape(), &device), dtype),
        v: cast::<B>(write::<B>(v, dims.sequence_shape(), &device), dtype),
        state: write::<B>(state, dims.state_shape(), &device),
    }
}

fn dims<B: Backend>(sequence: &FloatTensor<B>) -> Dims {
    let [batch, time, channels] = sequence.shape().dims();
    Dims { batch, time, channels }
}

fn read<B: CpuBackend>(tensor: FloatTensor<B>) -> B::Buffer {
    B::read(cast::<B>(tensor, DType::F32))
}

fn write<B: Backend>(data: Vec<f32>, shape: Vec<usize>, device: &B::Device) -> FloatTensor<B> {
    B::float_from_data(TensorData::new(data, shape), device)
}

fn cast<B: Backend>(tensor: FloatTensor<B>, dtype: DType) -> FloatTensor<B> {
    if tensor.dtype() == dtype { tensor } else { B::float_cast(tensor, FloatDType::from(dtype)) }
}
