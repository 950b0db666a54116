//! Inputs and targets, on the host and on a device.

use super::Sample;
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor, TensorData};

/// Samples side by side, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// Input ids, row by row.
    pub inputs: Vec<u32>,
    /// The ids that follow them.
    pub targets: Vec<u32>,
    /// The weight of every target in the loss; nothing means 1 for all.
    pub weights: Option<Vec<f32>>,
    /// Where rows start anew: `(position, row)`, in rising order.
    pub resets: Vec<(usize, usize)>,
    /// Inputs per row.
    pub ctx_len: usize,
}

impl Batch {
    /// One row a sample.
    ///
    /// # Panics
    /// When a sample has not `ctx_len + 1` tokens, or its targets or weights are not `ctx_len`.
    pub fn new(samples: impl Iterator<Item = Sample>, ctx_len: usize) -> Self {
        let mut batch = Self { inputs: Vec::new(), targets: Vec::new(), weights: None, resets: Vec::new(), ctx_len };
        for (row, sample) in samples.enumerate() {
            assert_eq!(sample.tokens.len(), ctx_len + 1, "a sample of another length");
            let before = batch.targets.len();
            batch.inputs.extend_from_slice(&sample.tokens[..ctx_len]);
            batch.targets.extend_from_slice(sample.targets.as_deref().unwrap_or(&sample.tokens[1..]));
            assert_eq!(batch.targets.len(), batch.inputs.len(), "one target an input");
            if sample.weights.is_some() || batch.weights.is_some() {
                let weights = batch.weights.get_or_insert_with(|| vec![1.0; before]);
                weights.extend(sample.weights.unwrap_or_else(|| vec![1.0; ctx_len]));
                assert_eq!(weights.len(), batch.targets.len(), "one weight a target");
            }
            batch.resets.extend(sample.resets.into_iter().map(|position| (position, row)));
        }
        batch.resets.sort_unstable();
        batch
    }

    /// How many rows there are.
    #[must_use]
    pub fn size(&self) -> usize {
        self.inputs.len() / self.ctx_len
    }

    /// The sum of the targets' weights: what a mean loss divides by.
    #[must_use]
    pub fn weight(&self) -> f64 {
        match &self.weights {
            None => self.targets.len() as f64,
            Some(weights) => weights.iter().map(|&weight| f64::from(weight)).sum(),
        }
    }

    /// Inputs and targets on a device, both `[B, T]`.
    #[must_use]
    pub fn tensors<B: Backend>(&self, device: &B::Device) -> (Tensor<B, 2, Int>, Tensor<B, 2, Int>) {
        let shape = [self.size(), self.ctx_len];
        let tensor = |ids: &[u32]| {
            let ids: Vec<i32> = ids.iter().map(|&id| id.cast_signed()).collect();
            Tensor::from_data(TensorData::new(ids, shape), device)
        };
        (tensor(&self.inputs), tensor(&self.targets))
    }

    /// The inputs `start..end` of every row, with their targets, weights and resets.
    ///
    /// # Panics
    /// When the range is empty or reaches past the rows' end.
    #[must_use]
    pub fn slice(&self, start: usize, end: usize) -> Self {
        assert!(start < end && end <= self.ctx_len, "no inputs {start}..{end} in rows of {}", self.ctx_len);
        fn cut<T: Copy>(rows: &[T], length: usize, start: usize, end: usize) -> Vec<T> {
            rows.chunks_exact(length).flat_map(|row| row[start..end].iter().copied()).collect()
        }
        Self {
            inputs: cut(&self.inputs, self.ctx_len, start, end),
            targets: cut(&self.targets, self.ctx_len, start, end),
            weights: self.weights.as_ref().map(|weights| cut(weights, self.ctx_len, start, end)),
            resets: (self.resets.iter())
                .filter(|(position, _)| (start..end).contains(position))
                .map(|&(position, row)| (position - start, row))
                .collect(),
            ctx_len: end - start,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch() -> Batch {
        let weights = Some(vec![0.0, 0.0, 1.0, 1.0]);
        let masked = Sample { weights, resets: vec![2], ..Sample::plain(vec![5, 6, 7, 8, 9]) };
        Batch::new([Sample::plain(vec![0, 1, 2, 3, 4]), masked].into_iter(), 4)
    }

    #[test]
    fn rows_keep_their_weights_and_resets() {
        let batch = batch();
        assert_eq!((batch.size(), batch.weight()), (2, 6.0));
        assert_eq!(batch.inputs, [0, 1, 2, 3, 5, 6, 7, 8]);
        assert_eq!(batch.targets, [1, 2, 3, 4, 6, 7, 8, 9]);
        assert_eq!(batch.resets, [(2, 1)]);
    }

    #[test]
    fn targets_may_be_others_than_what_is_read_next() {
        let other = Sample { targets: Some(vec![3, 2, 1]), ..Sample::plain(vec![5, 6, 7, 8]) };
        let batch = Batch::new([Sample::plain(vec![0, 1, 2, 3]), other].into_iter(), 3);
        assert_eq!(batch.inputs, [0, 1, 2, 5, 6, 7]);
        assert_eq!(batch.targets, [1, 2, 3, 3, 2, 1]);
    }

    #[test]
    fn slices_cut_every_row() {
        let batch = batch();
        let late = batch.slice(2, 4);
        assert_eq!(
            (late.inputs.as_slice(), late.targets.as_slice()),
            ([2, 3, 7, 8].as_slice(), [3, 4, 8, 9].as_slice())
        );
        assert_eq!((late.resets.as_slice(), late.weight()), ([(0, 1)].as_slice(), 4.0));
        assert_eq!(batch.slice(0, 2).weight(), 2.0);
        assert_eq!(batch.slice(0, 4), batch);
    }
}
