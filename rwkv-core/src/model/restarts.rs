//! Sequences that are several texts, one after the other: where each begins, the model starts anew.

use crate::ops::RwkvBackend;
use crate::ops::token_shift::token_shift;
use crate::ops::wkv::wkv;
use crate::state::{LayerState, State};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Tensor, TensorData};

/// Where the rows of a batch start anew, and from which state.
///
/// Only token shift and WKV look back in time, so only they are cut into pieces; everything else, all matrix products among
/// it, runs over the whole sequence. A batch with restarts at `n` different positions has `n` more pieces.
///
/// # Example
/// ```
/// use burn::tensor::{Int, Tensor};
/// use rwkv_core::{config::RwkvConfig, model::{NoHook, Restarts, Rwkv}};
/// # #[cfg(feature = "flex")] {
/// type B = burn::backend::Flex;
/// let device = Default::default();
/// let model = Rwkv::<B>::new(&RwkvConfig::new(65, 2, 32), 0, &device);
/// // Two texts in one row: 1 2 and 3 4 5.
/// let row = Tensor::<B, 2, Int>::from_data([[1, 2, 3, 4, 5]], &device);
/// let restarts = Restarts::new(&[(2, 0)], 1, model.zero_state(1));
/// let (x, _) = model.hidden(row, model.zero_state(1), Some(&restarts), &mut NoHook);
/// let alone = Tensor::<B, 2, Int>::from_data([[3, 4, 5]], &device);
/// let (y, _) = model.hidden(alone, model.zero_state(1), None, &mut NoHook);
/// let difference = (x.narrow(1, 2, 3) - y).abs().max().into_scalar();
/// assert!(difference < 1e-5);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Restarts<B: Backend> {
    cuts: Vec<Cut<B>>,
    fresh: State<B>,
}

/// One position at which rows start anew.
#[derive(Debug, Clone)]
struct Cut<B: Backend> {
    position: usize,
    /// `[B, 1]`: 1 for rows that go on, 0 for rows that start anew.
    goes_on: Tensor<B, 2>,
}

impl<B: Backend> Restarts<B> {
    /// Restarts before these inputs, `(position, row)`, from the state `fresh` of one sequence.
    ///
    /// # Panics
    /// When `fresh` is not of one sequence, or a row is not below `batch`.
    #[must_use]
    pub fn new(resets: &[(usize, usize)], batch: usize, fresh: State<B>) -> Self {
        assert_eq!(fresh.batch(), 1, "sequences start anew from the state of one sequence");
        assert!(resets.iter().all(|&(_, row)| row < batch), "a restart in a row that a batch of {batch} has not");
        let device = fresh.layers[0].att_x.device();
        let mut positions: Vec<usize> = resets.iter().map(|&(position, _)| position).collect();
        positions.sort_unstable();
        positions.dedup();
        let cut = |position: usize| {
            let mut goes_on = vec![1.0f32; batch];
            resets.iter().filter(|reset| reset.0 == position).for_each(|&(_, row)| goes_on[row] = 0.0);
            let goes_on = Tensor::from_data(TensorData::new(goes_on, [batch, 1]), (&device, DType::F32));
            Cut { position, goes_on }
        };
        Self { cuts: positions.into_iter().map(cut).collect(), fresh }
    }

    /// The part that a layer needs.
    ///
    /// # Panics
    /// When there is no such layer.
    #[must_use]
    pub fn layer(&self, layer: usize) -> LayerRestarts<'_, B> {
        let fresh = &self.fresh.layers[layer];
        LayerRestarts { cuts: &self.cuts, fresh, rows: (0, fresh.memory.dims()[1]) }
    }
}

/// The restarts of one layer.
#[derive(Debug)]
pub struct LayerRestarts<'a, B: Backend> {
    cuts: &'a [Cut<B>],
    fresh: &'a LayerState<B>,
    /// The first of the memory's rows that this is about, and how many.
    rows: (usize, usize),
}

impl<B: Backend> Clone for LayerRestarts<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B: Backend> Copy for LayerRestarts<'_, B> {}

impl<'a, B: RwkvBackend> LayerRestarts<'a, B> {
    /// The same restarts for a part of the memory: so many rows from this one on.
    pub(super) fn rows(self, start: usize, count: usize) -> Self {
        // A fresh memory of those that grow is shorter than one that has grown.
        let count = count.min(self.rows.1 - start);
        Self { rows: (self.rows.0 + start, count), ..self }
    }

    /// The memory before an input at which some rows start anew.
    fn cut_memory(&self, memory: Tensor<B, 3>, cut: &Cut<B>) -> Tensor<B, 3> {
        let fresh = self.fresh.memory.clone().narrow(1, self.rows.0, self.rows.1);
        let grew = fresh.dims()[1] != memory.dims()[1];
        let kept = memory * cut.goes_on.clone().unsqueeze_dim(2);
        // In a memory that grows zeros stand for nothing, and a fresh one is all zeros.
        if grew { kept } else { kept + fresh * cut.starts_anew().unsqueeze_dim(2) }
    }

    /// The time-mix's last input where a sequence starts.
    pub(super) fn fresh_att_x(&self) -> Tensor<B, 2> {
        self.fresh.att_x.clone()
    }

    /// The channel-mix's last input where a sequence starts.
    pub(super) fn fresh_ffn_x(&self) -> Tensor<B, 2> {
        self.fresh.ffn_x.clone()
    }

    /// [`token_shift`] in pieces, where rows start anew from `fresh`, `[1, C]`.
    pub(super) fn token_shift<const N: usize>(
        &self,
        x: Tensor<B, 3>,
        last: Tensor<B, 2>,
        mu: [Tensor<B, 3>; N],
        fresh: Tensor<B, 2>,
    ) -> [Tensor<B, 3>; N] {
        let [batch, time, width] = x.dims();
        let mut outputs = [(); N].map(|()| Vec::new());
        for (start, end, cut) in self.pieces(time) {
            let last = match start {
                0 => last.clone(),
                _ => x.clone().narrow(1, start - 1, 1).reshape([batch, width]).cast(last.dtype()),
            };
            let last = match cut {
                Some(cut) => last * cut.goes_on.clone() + fresh.clone() * cut.starts_anew(),
                None => last,
            };
            let pieces = token_shift(x.clone().narrow(1, start, end - start), last, mu.clone());
            outputs.iter_mut().zip(pieces).for_each(|(output, piece)| output.push(piece));
        }
        outputs.map(|pieces| Tensor::cat(pieces, 1))
    }

    /// Which text of its row an input belongs to, `[B, T]`: 0 for the one that goes on, then 1, 2, ….
    pub(super) fn texts(&self, time: usize) -> Tensor<B, 2> {
        let [batch, _] = self.cuts[0].goes_on.dims();
        let (device, dtype) = (self.cuts[0].goes_on.device(), self.cuts[0].goes_on.dtype());
        let zeros = |length: usize| Tensor::zeros([batch, length], (&device, dtype));
        self.cuts.iter().filter(|cut| cut.position < time).fold(zeros(time), |texts, cut| {
            let after = cut.starts_anew().expand([batch, time - cut.position]);
            let step = if cut.position == 0 { after } else { Tensor::cat(vec![zeros(cut.position), after], 1) };
            texts + step
        })
    }

    /// [`wkv`] in pieces.
    pub(super) fn wkv(
        &self,
        time_decay: &Tensor<B, 1>,
        time_first: &Tensor<B, 1>,
        k: &Tensor<B, 3>,
        v: &Tensor<B, 3>,
        mut state: Tensor<B, 3>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let time = k.dims()[1];
        let mut outputs = Vec::new();
        for (start, end, cut) in self.pieces(time) {
            if let Some(cut) = cut {
                state = self.cut_memory(state, cut);
            }
            let piece = |x: &Tensor<B, 3>| x.clone().narrow(1, start, end - start);
            let (y, after) = wkv(time_decay.clone(), time_first.clone(), piece(k), piece(v), state);
            outputs.push(y);
            state = after;
        }
        (Tensor::cat(outputs, 1), state)
    }

    /// A sequence mixer's pass text by text: `x` is `[B, T, C]`, and `mix` takes a piece of it with what it goes on from, `last`,
    /// `[B, C]`, and `memory`, and returns its outputs and what the next piece goes on from.
    pub(super) fn in_pieces(
        &self,
        x: Tensor<B, 3>,
        mut last: Tensor<B, 2>,
        mut memory: Tensor<B, 3>,
        mut mix: impl FnMut(Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>),
    ) -> (Tensor<B, 3>, Tensor<B, 2>, Tensor<B, 3>) {
        let time = x.dims()[1];
        let mut outputs = Vec::new();
        for (start, end, cut) in self.pieces(time) {
            if let Some(cut) = cut {
                last = last * cut.goes_on.clone() + self.fresh_att_x() * cut.starts_anew();
                memory = self.cut_memory(memory, cut);
            }
            let (y, next, after) = mix(x.clone().narrow(1, start, end - start), last, memory);
            outputs.push(y);
            (last, memory) = (next, after);
        }
        (Tensor::cat(outputs, 1), last, memory)
    }

    /// Sums over the past text by text: `q`, `k` and `v` are `[B, T, ·]`, and `attend` takes pieces of them with the state that
    /// they go on from, and returns the piece's outputs and the state after it.
    pub(super) fn sums_in_pieces(
        &self,
        q: Tensor<B, 3>,
        k: Tensor<B, 3>,
        v: Tensor<B, 3>,
        mut state: Tensor<B, 3>,
        attend: impl Fn(Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>, Tensor<B, 3>) -> (Tensor<B, 3>, Tensor<B, 3>),
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let mut outputs = Vec::new();
        for (start, end, cut) in self.pieces(q.dims()[1]) {
            if let Some(cut) = cut {
                state = self.cut_memory(state, cut);
            }
            let piece = |x: &Tensor<B, 3>| x.clone().narrow(1, start, end - start);
            let (y, after) = attend(piece(&q), piece(&k), piece(&v), state);
            outputs.push(y);
            state = after;
        }
        (Tensor::cat(outputs, 1), state)
    }

    /// A channel mixer's pass text by text, as [`Self::in_pieces`].
    pub(super) fn channels_in_pieces(
        &self,
        x: Tensor<B, 3>,
        mut last: Tensor<B, 2>,
        mut mix: impl FnMut(Tensor<B, 3>, Tensor<B, 2>) -> (Tensor<B, 3>, Tensor<B, 2>),
    ) -> (Tensor<B, 3>, Tensor<B, 2>) {
        let mut outputs = Vec::new();
        for (start, end, cut) in self.pieces(x.dims()[1]) {
            if let Some(cut) = cut {
                last = last * cut.goes_on.clone() + self.fresh_ffn_x() * cut.starts_anew();
            }
            let (y, next) = mix(x.clone().narrow(1, start, end - start), last);
            outputs.push(y);
            last = next;
        }
        (Tensor::cat(outputs, 1), last)
    }

    /// `start..end` of the pieces of a sequence, each with the cut at its start.
    fn pieces(&self, time: usize) -> Vec<(usize, usize, Option<&'a Cut<B>>)> {
        let cuts: Vec<&Cut<B>> = self.cuts.iter().filter(|cut| cut.position < time).collect();
        let first = (cuts.first().is_none_or(|cut| cut.position > 0)).then_some((0, None));
        let starts: Vec<_> = first.into_iter().chain(cuts.into_iter().map(|cut| (cut.position, Some(cut)))).collect();
        let ends = starts.iter().skip(1).map(|&(start, _)| start).chain([time]).collect::<Vec<_>>();
        starts.into_iter().zip(ends).map(|((start, cut), end)| (start, end, cut)).collect()
    }
}

impl<B: Backend> Cut<B> {
    fn starts_anew(&self) -> Tensor<B, 2> {
        self.goes_on.clone().neg().add_scalar(1.0)
    }
}
