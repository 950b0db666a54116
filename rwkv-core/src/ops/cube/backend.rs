//! [`RwkvBackend`] for every CubeCL runtime.

use crate::ops::adam::AdamUpdate;
use crate::ops::decode::{self, DecodeInputs, DecodeOutputs};
use crate::ops::head_loss::{self, LogitRows};
use crate::ops::token_shift::TokenShiftGradients;
use crate::ops::wkv::{self, WkvForward, WkvGradients, WkvInputs, WkvSaved};
use crate::ops::{
    RwkvBackend, adam, cross_entropy, embedding, gate, layer_norm, squared_relu, sum_of_squares, token_shift,
};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime, FloatElement, IntElement};

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

    fn has_decode_step(device: &Self::Device) -> bool {
        decode::cube::suits::<R>(device)
    }

    fn decode_step(inputs: DecodeInputs<'_, Self>) -> Option<DecodeOutputs<Self>> {
        decode::cube::step(inputs)
    }

    fn wkv_forward(inputs: WkvInputs<Self>, with_lse: bool) -> WkvForward<Self> {
        let cut = wkv::cube::Cut::of(&inputs.k, wkv::cube::FORWARD_TOKENS);
        wkv::cube::forward(inputs, with_lse, cut)
    }

    fn wkv_backward(saved: WkvSaved<Self>, gy: CubeTensor<R>, adjoint: CubeTensor<R>) -> WkvGradients<Self> {
        let cut = wkv::cube::Cut::of(&saved.inputs.k, wkv::cube::BACKWARD_TOKENS);
        wkv::cube::backward(saved, gy, adjoint, cut)
    }

    fn token_shift_forward(x: CubeTensor<R>, last: CubeTensor<R>, mu: Vec<CubeTensor<R>>) -> Vec<CubeTensor<R>> {
        token_shift::cube::forward(x, last, mu)
    }

    fn token_shift_backward(
        x: CubeTensor<R>,
        last: CubeTensor<R>,
        passed: Vec<(CubeTensor<R>, CubeTensor<R>)>,
    ) -> TokenShiftGradients<Self> {
        token_shift::cube::backward::<R, F, I, BT>(x, last, passed)
    }

    fn layer_norm_forward(x: CubeTensor<R>, weight: CubeTensor<R>, bias: CubeTensor<R>, epsilon: f64) -> CubeTensor<R> {
        layer_norm::cube::forward(x, weight, bias, epsilon)
    }

    fn layer_norm_backward(
        x: CubeTensor<R>,
        weight: CubeTensor<R>,
        grad: CubeTensor<R>,
        epsilon: f64,
    ) -> [CubeTensor<R>; 3] {
        layer_norm::cube::backward(x, weight, grad, epsilon)
    }

    fn gate_forward(r: CubeTensor<R>, y: CubeTensor<R>) -> CubeTensor<R> {
        gate::cube::forward(r, y)
    }

    fn gate_backward(r: CubeTensor<R>, y: CubeTensor<R>, grad: CubeTensor<R>) -> [CubeTensor<R>; 2] {
        gate::cube::backward(r, y, grad)
    }

    fn squared_relu_forward(x: CubeTensor<R>) -> CubeTensor<R> {
        squared_relu::cube::forward(x)
    }

    fn squared_relu_backward(x: CubeTensor<R>, grad: CubeTensor<R>) -> CubeTensor<R> {
        squared_relu::cube::backward(x, grad)
    }

    fn embedding_table_backward(tokens: CubeTensor<R>, grad: CubeTensor<R>, vocab: usize) -> CubeTensor<R> {
        embedding::cube::backward(tokens, grad, vocab)
    }

    fn width_of_products(columns: usize) -> usize {
        super::width_of_products(columns)
    }

    fn losses_of_rows(rows: LogitRows<Self>, wants_gradient: bool) -> (CubeTensor<R>, Option<CubeTensor<R>>) {
        head_loss::cube::losses(rows, wants_gradient)
    }

    fn cross_entropy_forward(
        logits: CubeTensor<R>,
        targets: CubeTensor<R>,
        _l2_wrap: f32,
    ) -> (CubeTensor<R>, CubeTensor<R>) {
        cross_entropy::cube::forward(logits, targets)
    }

    fn cross_entropy_backward(
        logits: CubeTensor<R>,
        targets: CubeTensor<R>,
        lse: CubeTensor<R>,
        grad: CubeTensor<R>,
        l2_wrap: f32,
    ) -> CubeTensor<R> {
        cross_entropy::cube::backward(logits, targets, lse, grad, l2_wrap)
    }

    fn adam(updates: Vec<AdamUpdate<Self>>, norm: CubeTensor<R>) -> Vec<[CubeTensor<R>; 3]> {
        adam::cube::updates(updates, norm)
    }

    fn sum_of_squares(tensors: Vec<CubeTensor<R>>) -> CubeTensor<R> {
        sum_of_squares::cube::squares(tensors)
    }
}
