//! The recurrent mode as one operation, where model and backend allow it.

use super::Rwkv;
use super::hooks::NoHook;
use super::layers::normalise;
use super::mixers::Shell;
use super::precision::halves_after;
use super::projection::Projection;
use crate::config::LAYER_NORM_EPSILON;
use crate::ops::decode::{DecodeBlock, DecodeInputs, DecodeMatrix, DecodeOutputs, MAX_BATCH};
use crate::ops::{RwkvBackend, inner_dtype, primitive, tensor};
use crate::state::{LayerState, State};
use burn::module::Param;
use burn::nn::LayerNorm;
use burn::tensor::backend::Backend;
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Int, Tensor};

impl<B: RwkvBackend> Rwkv<B> {
    /// [`Self::step`] by the backend's [`RwkvBackend::decode_step`]. Nothing where it has none, for models with parts that
    /// are not RWKV-4's or have adapters, and for more than [`MAX_BATCH`] sequences; in main memory also for weights that are not
    /// packed and a stream that is halved, elsewhere for matrices in pieces (but the head) or of several dtypes.
    pub(super) fn step_at_once(&self, token: &Tensor<B, 1, Int>, state: &State<B>) -> Option<(Tensor<B, 2>, State<B>)> {
        if !B::has_decode_step(&token.device()) {
            return None;
        }
        let DecodeOutputs { logits, state } = B::decode_step(self.decode_inputs(token, state)?)?;
        let layer = |[att_x, ffn_x, memory]: [FloatTensor<B>; 3]| LayerState {
            att_x: tensor(att_x),
            ffn_x: tensor(ffn_x),
            memory: tensor(memory),
        };
        Some((tensor(logits), State { layers: state.into_iter().map(layer).collect() }))
    }

    fn decode_inputs(&self, token: &Tensor<B, 1, Int>, state: &State<B>) -> Option<DecodeInputs<'_, B>> {
        let [batch] = token.dims();
        // What does not fit is for the other way to refuse.
        let fits = batch <= MAX_BATCH && state.layers.len() == self.blocks.len() && state.batch() == batch;
        if !fits {
            return None;
        }
        let head = alone(self.head.as_ref()?)?;
        let blocks = self.blocks.iter().zip(&state.layers).enumerate().map(|(l, (block, layer))| {
            if block.tiny.is_some() || block.shell() == Shell::GptNeoX {
                return None;
            }
            let (att, ffn) = (block.att.rwkv4()?, block.ffn.rwkv4()?);
            let LayerState { att_x, ffn_x, memory } = layer.clone();
            Some(DecodeBlock {
                ln1: norm(&block.ln1)?,
                ln2: norm(&block.ln2)?,
                att_mix: [&att.time_mix_k, &att.time_mix_v, &att.time_mix_r].map(parameter),
                time_decay: parameter(&att.time_decay),
                time_first: parameter(&att.time_first),
                att: [alone(&att.key)?, alone(&att.value)?, alone(&att.receptance)?],
                att_output: alone(&att.output)?,
                ffn_mix: [&ffn.time_mix_k, &ffn.time_mix_r].map(parameter),
                ffn_key: alone(&ffn.key)?,
                ffn_receptance: alone(&ffn.receptance)?,
                ffn_value: alone(&ffn.value)?,
                scale: if halves_after(l, self.rescale_every) { 0.5 } else { 1.0 },
                att_x: primitive(att_x),
                ffn_x: primitive(ffn_x),
                memory: primitive(memory),
            })
        });
        let blocks = blocks.collect::<Option<Vec<_>>>()?;
        let width = self.emb.shape()[1];
        let fits = state.layers.iter().zip(&self.blocks).all(|(layer, block)| {
            [layer.att_x.dims(), layer.ffn_x.dims()] == [[batch, width]; 2]
                && layer.memory.dims() == [batch, 3, block.att.size()]
        });
        if !fits {
            return None;
        }
        let x = self.embed(token.clone().unsqueeze_dim(1), &mut NoHook).squeeze_dim::<2>(1);
        if inner_dtype(x.dtype()) != DType::F32 {
            return None;
        }
        let x = x.cast(DType::F32);
        let x = match self.blocks.first().and_then(|block| block.ln0.as_ref()) {
            Some(ln0) => normalise(ln0, x),
            None => x,
        };
        Some(DecodeInputs { x: primitive(x), blocks, ln_out: norm(&self.ln_out)?, head, epsilon: LAYER_NORM_EPSILON })
    }
}

/// A weight without an adapter beside it, packed where the backend would have it so.
fn alone<B: RwkvBackend>(projection: &Projection<B>) -> Option<DecodeMatrix<'_, B>> {
    if projection.adapter().is_some() {
        return None;
    }
    if B::IN_MAIN_MEMORY {
        return projection.packed().map(DecodeMatrix::Packed);
    }
    projection.tensors().map(|tensors| DecodeMatrix::Tensors(tensors.into_iter().map(primitive).collect()))
}

fn parameter<B: Backend, const D: usize>(parameter: &Param<Tensor<B, D>>) -> FloatTensor<B> {
    primitive(parameter.val())
}

fn norm<B: Backend>(norm: &LayerNorm<B>) -> Option<[FloatTensor<B>; 2]> {
    Some([primitive(norm.gamma.val()), primitive(norm.beta.as_ref()?.val())])
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;
    use crate::config::RwkvConfig;
    use crate::model::{LoraConfig, Mixers, TinyAttentionSettings};
    use crate::ops::packed::{PackedMatrix, Packing};
    use burn::backend::Flex;

    fn packed(config: &RwkvConfig) -> Rwkv<Flex> {
        let mut model = Rwkv::<Flex>::new(config, 1, &Default::default());
        for (_, projection) in model.projections_mut() {
            let [inputs, outputs] = projection.shape();
            projection.pack(PackedMatrix::pack(Packing::F32, outputs, inputs, |_, row| row.fill(0.1)));
        }
        model
    }

    /// Whether a step of so many sequences is one operation.
    fn at_once(model: &Rwkv<Flex>, batch: usize) -> bool {
        let token = Tensor::zeros([batch], &model.device());
        model.step_at_once(&token, &model.zero_state(batch)).is_some()
    }

    #[test]
    fn only_plain_packed_models_step_at_once() {
        let config = RwkvConfig::new(13, 2, 16);
        assert!(at_once(&packed(&config), 1) && at_once(&packed(&config), MAX_BATCH));
        assert!(!at_once(&packed(&config), MAX_BATCH + 1), "too many sequences");
        assert!(!at_once(&Rwkv::new(&config, 1, &Default::default()), 1), "weights that are parameters");
        let adapted = packed(&config).add_lora(&LoraConfig::default(), 0).expect("it fits");
        assert!(!at_once(&adapted, 1), "adapters");
        let mut halving = packed(&config);
        halving.set_rescale_every(2);
        assert!(!at_once(&halving, 1), "a stream that is halved");
        let other = Rwkv::<Flex>::new(&RwkvConfig { dim_att: 24, ..config.clone() }, 1, &Default::default());
        let token = Tensor::zeros([1], &other.device());
        assert!(packed(&config).step_at_once(&token, &other.zero_state(1)).is_none(), "a state of another shape");
        for mixers in [
            Mixers { tied_head: true, ..Mixers::default() },
            Mixers { tiny_attention: Some(TinyAttentionSettings { size: 3, layer: 0 }), ..Mixers::default() },
            Mixers::gpt_neox(2),
        ] {
            assert!(!at_once(&packed(&RwkvConfig { mixers, ..config.clone() }), 1), "{mixers:?}");
        }
    }
}
