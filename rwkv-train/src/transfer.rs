//! A larger model from a smaller one.

use burn::module::{Module, ModuleMapper, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};
use rwkv_core::checkpoint::Checkpoint;
use rwkv_core::error::Result;
use rwkv_core::model::Rwkv;
use std::collections::HashMap;
use std::path::Path;

/// What became of the tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transferred {
    /// Taken as they are.
    pub taken: usize,
    /// Vectors of another length, resampled.
    pub resampled: usize,
    /// Left as they were initialised.
    pub fresh: usize,
}

/// Gives a fresh model what fits of a smaller one's tensors: those of equal size as they are, vectors of another length by
/// linear interpolation, `new[i] = old(i/d_new·d_old)` with the last value held. Everything else stays fresh.
///
/// # Errors
/// As [`Checkpoint::open`].
///
/// # Source
/// Reference §3.3; `generate_init_weight` of the official trainer.
pub fn transfer<B: Backend>(model: Rwkv<B>, from: &Path) -> Result<(Rwkv<B>, Transferred)> {
    let small = Checkpoint::open(from)?.model::<B>(&model.device())?;
    let mut tensors = HashMap::new();
    let mut visit = Flat { tensors: &mut tensors };
    small.visit(&mut visit);
    // Ids follow from names, so equal ids are equal names.
    let mut fill = Fill { small: tensors, outcome: Transferred::default() };
    let model = model.map(&mut fill);
    Ok((model, fill.outcome))
}

/// Shape and values by parameter.
type Tensors = HashMap<u64, (Vec<usize>, Vec<f32>)>;

struct Flat<'a> {
    tensors: &'a mut Tensors,
}

impl<B: Backend> burn::module::ModuleVisitor<B> for Flat<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let tensor = param.val();
        let values = tensor.to_data().convert_dtype(DType::F32).iter::<f32>().collect();
        self.tensors.insert(param.id.val(), (tensor.dims().to_vec(), values));
    }
}

struct Fill {
    small: Tensors,
    outcome: Transferred,
}

impl<B: Backend> ModuleMapper<B> for Fill {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<B, D>>) -> Param<Tensor<B, D>> {
        let id = param.id.val();
        let shape: [usize; D] = param.lazy_shape().dims();
        let count: usize = shape.iter().product();
        let is_vector = shape.iter().filter(|size| **size > 1).count() <= 1;
        let values = match self.small.remove(&id) {
            Some((old, values)) if old == shape => {
                self.outcome.taken += 1;
                values
            }
            Some((_, values)) if is_vector => {
                self.outcome.resampled += 1;
                resample(&values, count)
            }
            _ => {
                self.outcome.fresh += 1;
                return param;
            }
        };
        param.map(|tensor| {
            let new = Tensor::from_data(TensorData::new(values, shape), (&tensor.device(), DType::F32));
            new.set_require_grad(tensor.is_require_grad())
        })
    }
}

/// A vector at another length, by linear interpolation.
fn resample(old: &[f32], length: usize) -> Vec<f32> {
    let at = |i: usize| old[i.min(old.len() - 1)];
    let value = |i: usize| {
        let position = i as f64 / length as f64 * old.len() as f64;
        let below = position.floor();
        let share = (position - below) as f32;
        at(below as usize) * (1.0 - share) + at(below as usize + 1) * share
    };
    (0..length).map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_interpolated_and_the_last_value_is_held() {
        assert_eq!(resample(&[0.0, 1.0, 2.0, 3.0], 8), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 3.0]);
        assert_eq!(resample(&[5.0], 3), [5.0; 3]);
        assert_eq!(resample(&[0.0, 1.0, 2.0, 3.0], 2), [0.0, 2.0]);
    }
}
