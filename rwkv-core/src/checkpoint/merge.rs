//! Adapters added to a checkpoint's matrices, before any model is made of it.

use super::fill::weights;
use super::stored::Checkpoint;
use crate::error::Result;
use crate::model::Lora;
use crate::state::{Fingerprint, digest};

impl Checkpoint {
    /// The [`Fingerprint`] of the model in this checkpoint, with its weights as they are stored: that of
    /// [`Self::model`], one tensor at a time and without the model.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        let digests = self.tensors().map(|(name, stored)| {
            let data = weights(name, stored, 1.0);
            let shape: Vec<usize> = data.shape.iter().copied().collect();
            let values: Vec<f32> = data.iter().collect();
            self.release(name);
            digest(name, &shape, &values)
        });
        Fingerprint::of(self.config().clone(), digests.collect())
    }

    /// Adds adapters to the matrices, `W ← W + (alpha/rank)·A·B`, so that models and exports of this checkpoint have
    /// them, in any precision.
    ///
    /// The changed matrices are in memory from then on, in `f32`; the file stays as it is.
    ///
    /// # Errors
    /// [`Error::Config`](crate::error::Error::Config) for adapters of a model of other sizes. That they belong to these very weights is what
    /// [`Lora::load`] looks at.
    pub fn merge_lora(&mut self, lora: &Lora) -> Result<()> {
        lora.check_fits(self.tensors().filter_map(|(name, stored)| match *stored.shape {
            [out, inputs] => Some((name.strip_suffix(".weight")?.to_owned(), [out, inputs])),
            _ => None,
        }))?;
        for (name, [a, b]) in lora.matrices() {
            let name = format!("{name}.weight");
            let Some(stored) = self.tensor(&name) else { continue };
            let &[out, inputs] = stored.shape else { continue };
            let rank = lora.config().rank;
            let scale = lora.config().scale() as f32;
            let mut values = vec![0.0f32; out * inputs];
            stored.dtype.decode(stored.bytes, &mut values);
            let columns: Vec<Vec<f32>> = (0..rank).map(|r| a.iter().skip(r).step_by(rank).copied().collect()).collect();
            let mut update = vec![0.0f32; inputs];
            for (o, row) in values.chunks_exact_mut(inputs).enumerate() {
                update.fill(0.0);
                for (column, of_rank) in columns.iter().zip(b.chunks_exact(out)) {
                    let factor = of_rank[o];
                    update.iter_mut().zip(column).for_each(|(sum, a)| *sum += factor * a);
                }
                row.iter_mut().zip(&update).for_each(|(weight, update)| *weight += scale * update);
            }
            self.release(&name);
            self.replace(&name, &values);
        }
        Ok(())
    }
}
