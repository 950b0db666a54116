//! WKV and the decoding step as custom operations of Burn's fusion stream: opaque to the fuser, executed by the inner backend.

use super::decode::{self, DecodeInputs, DecodeOutputs};
use super::wkv::{WkvForward, WkvGradients, WkvInputs, WkvSaved};
use super::{RwkvBackend, inner_dtype};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, TensorMetadata};
use burn_fusion::stream::{Operation, OperationStreams, StreamId};
use burn_fusion::{Fusion, FusionBackend, FusionRuntime, FusionTensor};
use burn_ir::{CustomOpIr, HandleContainer, OperationIr, TensorIr};

impl<B: FusionBackend + RwkvBackend> RwkvBackend for Fusion<B> {
    const IN_MAIN_MEMORY: bool = B::IN_MAIN_MEMORY;

    fn max_tensor_bytes(device: &Self::Device) -> usize {
        B::max_tensor_bytes(device)
    }

    fn burst<T>(work: impl FnOnce() -> T) -> T {
        B::burst(work)
    }

    fn has_decode_step(device: &Self::Device) -> bool {
        B::has_decode_step(device)
    }

    fn decode_step(inputs: DecodeInputs<'_, Self>) -> Option<DecodeOutputs<Self>> {
        decode::fusion::step(inputs)
    }

    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        let [batch, time, channels] = inputs.k.shape().dims();
        let (activations, inside) = (inputs.k.dtype(), inner_dtype(inputs.k.dtype()));
        let mut outputs =
            vec![(Shape::new([batch, time, channels]), activations), (Shape::new([batch, 3, channels]), inside)];
        if with_lse {
            outputs.push((Shape::new([batch, time, channels]), inside));
        }
        let WkvInputs { w, u, k, v, state } = inputs;
        let run = move |inputs| run_forward::<B>(inputs, with_lse);
        let mut outputs = register_call::<B>("rwkv.wkv_forward", vec![w, u, k, v, state], outputs, run).into_iter();
        let mut next = || outputs.next().expect("as many outputs as were described");
        WkvForward { y: next(), state: next(), lse: with_lse.then(next) }
    }

    fn wkv_backward(saved: WkvSaved<Self>, gy: FloatTensor<Self>, adjoint: FloatTensor<Self>) -> WkvGradients<Self> {
        let [batch, time, channels] = saved.y.shape().dims();
        let (activations, inside) = (saved.y.dtype(), inner_dtype(saved.y.dtype()));
        let outputs = vec![
            (Shape::new([channels]), inside),
            (Shape::new([channels]), inside),
            (Shape::new([batch, time, channels]), activations),
            (Shape::new([batch, time, channels]), activations),
            (Shape::new([batch, 3, channels]), inside),
        ];
        let WkvInputs { w, u, k, v, state } = saved.inputs;
        let inputs = vec![w, u, k, v, state, saved.y, saved.lse, gy, adjoint];
        let mut outputs = register_call::<B>("rwkv.wkv_backward", inputs, outputs, run_backward::<B>).into_iter();
        let mut next = || outputs.next().expect("as many outputs as were described");
        WkvGradients { w: next(), u: next(), k: next(), v: next(), state: next() }
    }
}

fn run_forward<B: RwkvBackend>(inputs: Vec<FloatTensor<B>>, with_lse: bool) -> Vec<FloatTensor<B>> {
    let [w, u, k, v, state] = fixed(inputs);
    let WkvForward { y, state, lse } = B::wkv_forward(WkvInputs { w, u, k, v, state }, with_lse);
    [y, state].into_iter().chain(lse).collect()
}

fn run_backward<B: RwkvBackend>(inputs: Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> {
    let [w, u, k, v, state, y, lse, gy, adjoint] = fixed(inputs);
    let saved = WkvSaved { inputs: WkvInputs { w, u, k, v, state }, y, lse };
    let WkvGradients { w, u, k, v, state } = B::wkv_backward(saved, gy, adjoint);
    vec![w, u, k, v, state]
}

fn fixed<T, const N: usize>(tensors: Vec<T>) -> [T; N] {
    let found = tensors.len();
    tensors.try_into().unwrap_or_else(|_| unreachable!("{found} tensors where {N} were described"))
}

/// An operation on the inner backend's tensors, in the order of its description.
type Run<B> = Box<dyn Fn(Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> + Send + Sync>;

struct FusedCall<B: FusionBackend> {
    description: CustomOpIr,
    run: Run<B>,
}

impl<B: FusionBackend> std::fmt::Debug for FusedCall<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("FusedCall").field(&self.description).finish()
    }
}

impl<B: FusionBackend> Operation<B::FusionRuntime> for FusedCall<B> {
    fn execute(&self, handles: &mut HandleContainer<<B::FusionRuntime as FusionRuntime>::FusionHandle>) {
        let inputs = self.description.inputs.iter().map(|input| handles.get_float_tensor::<B>(input)).collect();
        for (output, tensor) in self.description.outputs.iter().zip((self.run)(inputs)) {
            handles.register_float_tensor::<B>(&output.id, tensor);
        }
    }
}

/// Puts one call of `run` into the stream of its inputs.
///
/// # Panics
/// Without an input.
pub(super) fn register_call<B: FusionBackend>(
    id: &'static str,
    inputs: Vec<FloatTensor<Fusion<B>>>,
    outputs: Vec<(Shape, DType)>,
    run: impl Fn(Vec<FloatTensor<B>>) -> Vec<FloatTensor<B>> + Send + Sync + 'static,
) -> Vec<FloatTensor<Fusion<B>>> {
    let client = inputs[0].client.clone();
    // Those of this thread's stream need not be named, and Burn looks for every input among all that are.
    let mut streams = OperationStreams::default();
    inputs.iter().filter(|input| input.stream != StreamId::current()).for_each(|input| streams.tensor(input));
    let inputs: Vec<TensorIr> = inputs.into_iter().map(FusionTensor::into_ir).collect();
    let outputs: Vec<TensorIr> = outputs
        .into_iter()
        .map(|(shape, dtype)| TensorIr::uninit(client.create_empty_handle(), shape, dtype))
        .collect();
    let description = CustomOpIr::new(id, &inputs, &outputs);
    client.register(
        streams,
        OperationIr::Custom(description.clone()),
        FusedCall::<B> { description, run: Box::new(run) },
    )
}
