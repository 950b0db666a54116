//! The layouts in which the official programs keep a state.

use super::{LayerState, State};
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// In which order an official program lists a layer's five vectors. All of them list the layers one after the other.
///
/// # Source
/// `RWKV.forward` of the PyPI package `rwkv`; `RWKV_in_150_lines.py` of `ChatRWKV`; `rwkv_graph.inc` of rwkv.cpp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateLayout {
    /// The package `rwkv`: `att_x, aa, bb, pp, ffn_x`, a list of `5L` vectors.
    Package,
    /// `ChatRWKV` and rwkv.cpp: `ffn_x, att_x, aa, bb, pp`, a matrix `[5L, C]`.
    ChatRwkv,
}

impl StateLayout {
    /// Where `att_x, ffn_x, aa, bb, pp` stand among a layer's five.
    fn places(self) -> [usize; 5] {
        match self {
            Self::Package => [0, 4, 1, 2, 3],
            Self::ChatRwkv => [1, 0, 2, 3, 4],
        }
    }
}

impl<B: Backend> State<B> {
    /// The state of one sequence as `5L` vectors; put together, for `A = C`, they are the matrix `[5L, C]`.
    ///
    /// # Errors
    /// [`Error::Config`] for a state of several sequences, or of a model with other [mixers](crate::model::Mixers).
    ///
    /// # Example
    /// ```
    /// use rwkv_core::{config::RwkvConfig, state::{State, StateLayout}};
    /// # #[cfg(feature = "flex")] {
    /// type B = burn::backend::Flex;
    /// let config = RwkvConfig::new(65, 2, 32);
    /// let state = State::<B>::zeros(&config, 1, &Default::default());
    /// let matrix: Vec<f32> = state.to_official(StateLayout::ChatRwkv).unwrap().concat();
    /// assert_eq!(matrix.len(), 5 * 2 * 32);
    /// let rows: Vec<Vec<f32>> = matrix.chunks(32).map(<[f32]>::to_vec).collect();
    /// let again = State::<B>::from_official(&rows, StateLayout::ChatRwkv, &config, &Default::default()).unwrap();
    /// assert_eq!(again.batch(), 1);
    /// # }
    /// ```
    pub fn to_official(&self, layout: StateLayout) -> Result<Vec<Vec<f32>>> {
        if self.batch() != 1 {
            return Err(Error::config("state", "one sequence", format!("{} sequences", self.batch())));
        }
        if let Some(layer) = self.layers.iter().find(|layer| layer.memory.dims()[1] != 3) {
            let found = format!("a memory of {:?} in another mixer", layer.memory.dims());
            return Err(Error::config("state", "the states of WKV", found));
        }
        let mut rows = Vec::with_capacity(5 * self.layers.len());
        for layer in &self.layers {
            let wkv = values(layer.memory.clone());
            let channels = wkv.len() / 3;
            let mut five: [Vec<f32>; 5] = Default::default();
            let [att_x, ffn_x, a, b, p] = layout.places();
            five[att_x] = values(layer.att_x.clone());
            five[ffn_x] = values(layer.ffn_x.clone());
            for (i, place) in [a, b, p].into_iter().enumerate() {
                five[place] = wkv[i * channels..(i + 1) * channels].to_vec();
            }
            rows.extend(five);
        }
        Ok(rows)
    }

    /// The state of one sequence from an official program's `5L` vectors.
    ///
    /// # Errors
    /// [`Error::Config`] when their number or lengths are not those of the model.
    pub fn from_official(
        rows: &[Vec<f32>],
        layout: StateLayout,
        config: &RwkvConfig,
        device: &B::Device,
    ) -> Result<Self> {
        if !config.mixers.are_rwkv4() {
            return Err(Error::config("model", "RWKV-4, whose states these are", "one with other mixers"));
        }
        if rows.len() != 5 * config.n_layer {
            return Err(Error::config("state", format!("{} vectors", 5 * config.n_layer), rows.len()));
        }
        let layer = |(l, five): (usize, &[Vec<f32>])| {
            let vector = |place: usize, length: usize| -> Result<Vec<f32>> {
                let found = five[place].len();
                if found != length {
                    let expected = format!("{length} values in vector {}", 5 * l + place);
                    return Err(Error::config("state", expected, found));
                }
                Ok(five[place].clone())
            };
            let [att_x, ffn_x, a, b, p] = layout.places();
            let (c, channels) = (config.n_embd, config.dim_att);
            let wkv = [vector(a, channels)?, vector(b, channels)?, vector(p, channels)?].concat();
            Ok(LayerState {
                att_x: tensor(vector(att_x, c)?, [1, c], device),
                ffn_x: tensor(vector(ffn_x, c)?, [1, c], device),
                memory: tensor(wkv, [1, 3, channels], device),
            })
        };
        Ok(Self { layers: rows.chunks_exact(5).enumerate().map(layer).collect::<Result<_>>()? })
    }
}

fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

fn tensor<B: Backend, const D: usize>(values: Vec<f32>, shape: [usize; D], device: &B::Device) -> Tensor<B, D> {
    Tensor::from_data(TensorData::new(values, shape), (device, DType::F32))
}
