//! Log-probabilities of tokens from the residual stream.

use burn::tensor::{Int, Tensor};
use rwkv_core::config::LAYER_NORM_EPSILON;
use rwkv_core::model::Rwkv;
use rwkv_core::ops::cross_entropy::cross_entropy;
use rwkv_core::ops::layer_norm::layer_norm;
use rwkv_core::ops::{RwkvBackend, inner_dtype};

/// The model's head, over some positions at a time.
pub(super) struct Head<'a, B: RwkvBackend> {
    pub(super) model: &'a Rwkv<B>,
    /// Positions whose logits exist at the same time.
    pub(super) rows: usize,
}

impl<B: RwkvBackend> Head<'_, B> {
    /// For every `((row, position), target)` the log-probability that the target follows there, and whether it is the most
    /// probable token; the first of equally probable ones is.
    ///
    /// # Shapes
    /// - `x`: `[B, T, C]`, the residual stream after the last block
    pub(super) fn score(&self, x: Tensor<B, 3>, wanted: &[((usize, usize), u32)]) -> Vec<(f64, bool)> {
        let [batch, time, width] = x.dims();
        let flat = x.reshape([batch * time, width]);
        // Choices of one question ask the same position for different tokens: it is projected once.
        let mut positions: Vec<usize> = wanted.iter().map(|&((row, position), _)| row * time + position).collect();
        positions.sort_unstable();
        positions.dedup();
        let mut by_position: Vec<usize> = (0..wanted.len()).collect();
        let flat_position = |i: usize| wanted[i].0.0 * time + wanted[i].0.1;
        by_position.sort_by_key(|&i| flat_position(i));
        let mut scores = vec![(0.0, false); wanted.len()];
        let mut rest = by_position.as_slice();
        for chunk in positions.chunks(self.rows) {
            let Some(&last) = chunk.last() else { continue };
            let asked = rest.partition_point(|&i| flat_position(i) <= last);
            let (now, later) = rest.split_at(asked);
            rest = later;
            self.chunk(&flat, chunk, now.iter().map(|&i| (flat_position(i), wanted[i].1)), |i, score| {
                scores[now[i]] = score;
            });
        }
        scores
    }

    /// Scores the tokens asked for at some of the positions, which are in order.
    fn chunk(
        &self,
        flat: &Tensor<B, 2>,
        positions: &[usize],
        asked: impl Iterator<Item = (usize, u32)>,
        mut put: impl FnMut(usize, (f64, bool)),
    ) {
        let device = flat.device();
        let indices = |numbers: Vec<i64>| Tensor::<B, 1, Int>::from_data(numbers.as_slice(), &device);
        let x = flat.clone().select(0, indices(positions.iter().map(|&position| position as i64).collect()));
        let norm = &self.model.ln_out;
        let bias = norm.beta.as_ref().expect("every layer norm of the model has a bias");
        let x = layer_norm(x, norm.gamma.val(), bias.val(), LAYER_NORM_EPSILON);
        let inside = inner_dtype(x.dtype());
        let logits = self.model.head().forward(x).cast(inside);
        let best: Vec<i64> = logits.clone().argmax(1).into_data().iter::<i64>().collect();

        let (rows, targets): (Vec<usize>, Vec<i64>) =
            asked.map(|(position, target)| (positions.partition_point(|&p| p < position), i64::from(target))).unzip();
        let one_each = rows.len() == positions.len(); // every position is asked for something
        let logits =
            if one_each { logits } else { logits.select(0, indices(rows.iter().map(|&row| row as i64).collect())) };
        let losses = cross_entropy(logits, indices(targets.clone()), 0.0).into_data();
        for (i, loss) in losses.iter::<f64>().enumerate() {
            put(i, (-loss, best[rows[i]] == targets[i]));
        }
    }
}
