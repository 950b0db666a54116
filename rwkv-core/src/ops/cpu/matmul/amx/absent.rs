//! Where there is no matrix unit.

use super::Matrix;

/// A number that one could multiply.
pub(in crate::ops) trait Number {}

impl<N> Number for N {}

/// Never.
pub(super) fn is_there() -> bool {
    false
}

/// Nothing: there is no unit.
pub(super) fn multiply<A: Number, B: Number>(_: Matrix<'_, A>, _: Matrix<'_, B>) -> Option<Vec<f32>> {
    None
}
