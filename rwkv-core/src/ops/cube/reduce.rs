//! Sums and maxima over the units of a cube, by halving in shared memory. Every unit must take part, and every unit gets
//! the result.

use cubecl::prelude::*;

/// The sum of what the `units` units of the cube bring; `units` is a power of two.
#[cube]
pub(in crate::ops) fn sum<S: Float>(value: S, #[comptime] units: u32) -> S {
    let mut shared = SharedMemory::<S>::new(comptime!(units as usize));
    let unit = UNIT_POS as usize;
    shared[unit] = value;
    sync_cube();
    let mut half = comptime!(units as usize / 2).runtime();
    while half > 0 {
        if unit < half {
            shared[unit] = shared[unit] + shared[unit + half];
        }
        sync_cube();
        half /= 2;
    }
    let total = shared[0];
    // The memory may be used again at once.
    sync_cube();
    total
}

/// The largest value and its index; of equal values, the smallest index.
#[derive(CubeType)]
pub(in crate::ops) struct Largest<S: Float> {
    pub value: S,
    pub index: u32,
}

/// The largest of what the `units` units of the cube bring; `units` is a power of two.
#[cube]
pub(in crate::ops) fn largest<S: Float>(value: S, index: u32, #[comptime] units: u32) -> Largest<S> {
    let mut values = SharedMemory::<S>::new(comptime!(units as usize));
    let mut indices = SharedMemory::<u32>::new(comptime!(units as usize));
    let unit = UNIT_POS as usize;
    values[unit] = value;
    indices[unit] = index;
    sync_cube();
    let mut half = comptime!(units as usize / 2).runtime();
    while half > 0 {
        if unit < half {
            let other = values[unit + half];
            let other_index = indices[unit + half];
            let same = other == values[unit] && other_index < indices[unit];
            if other > values[unit] || same {
                values[unit] = other;
                indices[unit] = other_index;
            }
        }
        sync_cube();
        half /= 2;
    }
    let value = values[0];
    let index = indices[0];
    sync_cube();
    Largest::<S> { value, index }
}
