//! What mixers with weights between positions need: entries of their tables, for every query and every slot.

use super::cache;
use crate::config::RwkvConfig;
use crate::error::{Error, Result};
use burn::tensor::backend::Backend;
use burn::tensor::{Bool, Int, Tensor};

/// The positions of a stretch of queries and of the slots that they may look at.
///
/// All rows of a batch are alike, and `R = 1`, where no token came before; else `R = B`, because rows may be of different
/// lengths. Tables have `N` positions, and what is beyond is taken as the last one.
pub(super) struct Positions<B: Backend> {
    queries: Tensor<B, 3>, // [R, T, 1], counted from 1
    slots: Tensor<B, 2>,   // [R, S], counted from 1; 0 for an empty slot
    first: bool,
}

impl<B: Backend> Positions<B> {
    /// For queries at these positions, `[B, T, 1]`, and slots at those, `[B, S]`, the last `T` of which are the queries' own.
    pub fn new(queries: Tensor<B, 3>, slots: Tensor<B, 2>) -> Self {
        let first = queries.dims()[1] == slots.dims()[1];
        if first {
            return Self { queries: queries.narrow(0, 0, 1), slots: slots.narrow(0, 0, 1), first };
        }
        Self { queries, slots, first }
    }

    /// What a query must not look at, `[R, T, S]`: later tokens, and empty slots.
    pub fn hidden(&self) -> Tensor<B, 3, Bool> {
        cache::hidden(&self.queries, &self.slots)
    }

    /// Slots that are `window` or more positions before the query, `[R, T, S]`.
    pub fn beyond(&self, window: usize) -> Tensor<B, 3, Bool> {
        let slots = self.slots.clone().unsqueeze_dim(1); // [R, 1, S]
        (self.queries.clone() - slots).greater_equal_elem(window as f64)
    }

    /// Rows of a table, `[1, N, D]`, for the queries: `[R, T, D]`.
    pub fn of_queries(&self, table: Tensor<B, 3>) -> Tensor<B, 3> {
        self.rows(table, self.queries.clone().squeeze_dim(2))
    }

    /// Rows of a table, `[1, N, D]`, for the slots: `[R, S, D]`.
    pub fn of_slots(&self, table: Tensor<B, 3>) -> Tensor<B, 3> {
        self.rows(table, self.slots.clone())
    }

    /// Entries of a table of pairs, `[1, N, N]`, in the row of the query and the column of the slot: `[R, T, S]`.
    pub fn of_pairs(&self, table: Tensor<B, 3>) -> Tensor<B, 3> {
        let [_, positions, _] = table.dims();
        let [_, time, _] = self.queries.dims();
        if self.first && time <= positions {
            return table.narrow(1, 0, time).narrow(2, 0, time);
        }
        let slots = index(self.slots.clone(), positions).unsqueeze_dim::<3>(1).repeat_dim(1, time);
        self.of_queries(table).gather(2, slots)
    }

    fn rows(&self, table: Tensor<B, 3>, at: Tensor<B, 2>) -> Tensor<B, 3> {
        let ([_, positions, size], [rows, count]) = (table.dims(), at.dims());
        if self.first && count <= positions {
            return table.narrow(1, 0, count);
        }
        let at = index(at, positions).reshape([rows * count]);
        table.squeeze_dim::<2>(0).select(0, at).reshape([rows, count, size])
    }
}

/// Where a table of this many positions has its entry.
fn index<B: Backend>(at: Tensor<B, 2>, positions: usize) -> Tensor<B, 2, Int> {
    at.clamp(1.0, positions as f64).sub_scalar(1.0).int()
}

/// Checks a setting that must not be 0.
///
/// # Errors
/// [`Error::Config`] that names it.
pub(super) fn at_least_one(key: &'static str, value: usize) -> Result<()> {
    if value == 0 { Err(Error::config(key, "at least 1", value)) } else { Ok(()) }
}

/// Multiplications with additions of one sum over all slots for a token of a sequence of `ctx_len`: on average half of them.
pub(super) fn sum_over_slots(config: &RwkvConfig, ctx_len: usize) -> f64 {
    config.dim_att as f64 * (ctx_len as f64 + 1.0) / 2.0
}
