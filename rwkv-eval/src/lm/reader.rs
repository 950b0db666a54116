//! Pieces of text read together.

use super::ids;
use crate::request::TokenRequest;
use burn::tensor::Tensor;
use rwkv_core::model::{NoHook, Rwkv};
use rwkv_core::ops::RwkvBackend;
use rwkv_core::state::State;
use std::rc::Rc;

/// A part of a request's input.
pub(super) struct Segment<'a> {
    pub(super) request: &'a TokenRequest,
    pub(super) start: usize,
    pub(super) end: usize,
    /// Whether the state after it is wanted.
    pub(super) keep: bool,
}

/// One sequence of a batch of states.
pub(super) struct Held<B: RwkvBackend> {
    batch: Rc<State<B>>,
    row: usize,
}

impl<B: RwkvBackend> Clone for Held<B> {
    fn clone(&self) -> Self {
        Self { batch: self.batch.clone(), row: self.row }
    }
}

/// Reads segments of unequal lengths that begin after equally many tokens.
///
/// All begin together. Where a segment ends whose state is wanted, there is a cut, and the others go on without it; so no
/// padding enters a state that anyone sees. Segments whose states nobody wants are filled up to the next cut:
///
/// ```text
/// segment 0   ■ ■ ■ ■ ■ ■|■       its state is not wanted
/// segment 1   ■ ■ ■ ■ ■ ■|        its state is wanted: a cut
/// segment 2   ■ ■ ■ □ □ □|        its state is not wanted
/// ```
pub(super) struct Reader<'a, B: RwkvBackend> {
    model: &'a Rwkv<B>,
    /// From the longest to the shortest; `order` has their numbers.
    segments: Vec<&'a Segment<'a>>,
    order: Vec<usize>,
    /// Where passes end, counted from the segments' beginning, the next one last.
    cuts: Vec<usize>,
    read: usize,
    state: Option<State<B>>,
    kept: Vec<(usize, Held<B>)>,
}

/// What a pass read.
pub(super) struct Pass<B: RwkvBackend> {
    /// The residual stream after the last block, `[B, T, C]`.
    pub(super) x: Tensor<B, 3>,
    /// Which segment is in which row.
    pub(super) rows: Vec<usize>,
    /// Positions of the inputs.
    pub(super) from: usize,
    pub(super) to: usize,
}

impl<'a, B: RwkvBackend> Reader<'a, B> {
    /// Begins after the parents' states, or at the beginning; reads `pass` tokens of a row at once, at most.
    pub(super) fn new(
        model: &'a Rwkv<B>,
        segments: &'a [Segment<'a>],
        parents: Option<Vec<Held<B>>>,
        pass: usize,
    ) -> Self {
        let mut order: Vec<usize> = (0..segments.len()).collect();
        order.sort_by_key(|&i| std::cmp::Reverse(segments[i].end - segments[i].start));
        let sorted: Vec<&Segment<'_>> = order.iter().map(|&i| &segments[i]).collect();
        let state = match parents {
            None => model.zero_state(segments.len()),
            Some(parents) => gather(order.iter().map(|&i| &parents[i])),
        };
        let length = |segment: &Segment<'_>| segment.end - segment.start;
        let longest = sorted.first().map_or(0, |segment| length(segment));
        let wanted = sorted.iter().filter(|segment| segment.keep).map(|segment| length(segment));
        let mut cuts: Vec<usize> = wanted.chain((1..).map(|i| i * pass).take_while(|&cut| cut < longest)).collect();
        cuts.push(longest);
        cuts.sort_unstable_by(|a, b| b.cmp(a));
        cuts.dedup();
        Self { model, segments: sorted, order, cuts, read: 0, state: Some(state), kept: Vec::new() }
    }

    /// Reads up to the next cut.
    pub(super) fn next_pass(&mut self) -> Option<Pass<B>> {
        let (from, to) = (self.read, self.cuts.pop()?);
        let mut state = self.state.take()?;
        let left = self.segments.iter().take_while(|segment| segment.end - segment.start > from).count();
        if left < state.batch() {
            state = state.select(&(0..left).collect::<Vec<_>>());
        }
        let start = self.segments[0].start;
        let tokens = self.segments[..left].iter().flat_map(|segment| {
            let own = segment.request.input().take(segment.end).skip(start + from);
            // What stands in for the end of a short segment is read by nobody else.
            own.chain(std::iter::repeat(0)).take(to - from).map(i64::from)
        });
        let tokens = ids(tokens.collect(), left, &self.model.device());
        let (x, state) = self.model.hidden(tokens, state, None, &mut NoHook);
        let ends_here = |row: &usize| self.segments[*row].keep && self.segments[*row].end - start == to;
        let wanted: Vec<usize> = (0..left).filter(ends_here).collect();
        if !wanted.is_empty() {
            let batch = Rc::new(state.select(&wanted));
            let held = wanted.iter().enumerate().map(|(row, &i)| (self.order[i], Held { batch: batch.clone(), row }));
            self.kept.extend(held);
        }
        (self.read, self.state) = (to, Some(state));
        Some(Pass { x, rows: self.order[..left].to_vec(), from: start + from, to: start + to })
    }

    /// The states after the segments that wanted theirs.
    pub(super) fn into_kept(self) -> Vec<(usize, Held<B>)> {
        self.kept
    }
}

/// One batch of states from several, with as few copies as neighbours in one batch allow.
fn gather<'h, B: RwkvBackend>(held: impl Iterator<Item = &'h Held<B>>) -> State<B> {
    let held: Vec<&Held<B>> = held.collect();
    let runs = held.chunk_by(|a, b| Rc::ptr_eq(&a.batch, &b.batch));
    let states: Vec<State<B>> =
        runs.map(|run| run[0].batch.select(&run.iter().map(|held| held.row).collect::<Vec<_>>())).collect();
    if states.len() == 1 { states.into_iter().next().expect("it has one") } else { State::cat(states) }
}
