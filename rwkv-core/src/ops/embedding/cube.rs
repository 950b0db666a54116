//! The gradient of the embedding table on CubeCL backends.
//!
//! Every place of the text finds the next place of the same token, and whether there is an earlier one. Then the first place of
//! a token adds up the gradients at all its places, in their order, so that the same batch always gives the same sum.
//!
//! The places of one token are read one after the other, those of different tokens at once: the most frequent token decides how
//! long it takes.
//!
//! | launches | reads | writes | comparisons |
//! |---|---|---|---|
//! | 3 | `grad`; the tokens, from the cache | the table, of which most rows are cleared alone; two numbers a place | up to `N` for each of the `N` places, fewer for frequent tokens |

use crate::ops::cube::{elements, empty, fold, vector_size};
use crate::ops::inner_dtype;
use burn::tensor::{DType, TensorMetadata};
use burn_cubecl::CubeRuntime;
use burn_cubecl::kernel::into_contiguous;
use burn_cubecl::ops::numeric::zeros_client;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubecl::zspace::metadata::Metadata;

/// Units of a cube: vectors of columns.
const UNITS: usize = 64;

/// Tokens that a unit looks at together.
const AT_ONCE: usize = 8;

/// [`RwkvBackend::embedding_table_backward`](crate::ops::RwkvBackend::embedding_table_backward).
pub(in crate::ops) fn backward<R: CubeRuntime>(
    tokens: CubeTensor<R>,
    grad: CubeTensor<R>,
    vocab: usize,
) -> CubeTensor<R> {
    let [tokens, grad] = [tokens, grad].map(into_contiguous);
    let [count, width] = grad.shape().dims();
    let inside = inner_dtype(grad.dtype);
    let client = grad.client.clone();

    let links = empty(&grad, [2, count], DType::U32);
    let (cubes, units) = elements(count);
    let dtype = tokens.dtype.into();
    let [read_tokens, to_links] = [&tokens, &links].map(|x| x.clone().into_tensor_arg());
    link::launch::<R>(&client, cubes, units, read_tokens, to_links, dtype);

    // As one row: those of a table may lie apart on CUDA.
    let zeros = zeros_client(client.clone(), grad.device.clone(), [vocab * width].into(), grad.dtype);
    let metadata = Metadata::new([vocab, width], [width, 1]);
    let table = CubeTensor::new(client.clone(), zeros.handle, metadata, grad.device.clone(), grad.dtype);
    let size = vector_size(&grad, width);
    let blocks = (width / size).div_ceil(UNITS);
    let CubeCount::Static(x, y, _) = fold(count) else { unreachable!("a number of cubes that is known") };
    let dtypes = [grad.dtype.into(), inside.into(), tokens.dtype.into()];
    let [tokens, links, grad] = [tokens, links, grad].map(CubeTensor::into_tensor_arg);
    add_up::launch::<R>(
        &client,
        CubeCount::Static(x, y, u32::try_from(blocks).expect("fewer than 2³² blocks")),
        CubeDim::new_1d(UNITS as u32),
        size,
        tokens,
        links,
        grad,
        table.clone().into_tensor_arg(),
        dtypes,
    );
    table
}

/// The next place of every place's token, `N` where there is none, and 1 where there is an earlier one. A unit takes a place.
#[cube(launch)]
fn link<I: Int>(tokens: &Tensor<I>, links: &mut Tensor<u32>, #[define(I)] _dtype: StorageType) {
    let count = tokens.len();
    let place = ABSOLUTE_POS;
    if place >= count {
        terminate!();
    }
    let token = tokens[place];
    let mut earlier = 0u32.runtime();
    let mut before = place;
    while before > 0 && earlier == 0 {
        #[unroll]
        for i in 0..AT_ONCE {
            earlier = select(tokens[before - 1 - min(i, before - 1)] == token, 1u32, earlier);
        }
        before -= min(AT_ONCE.runtime(), before);
    }
    let mut next = count as u32;
    let mut at = place + 1;
    while at < count && next == count as u32 {
        #[unroll]
        for i in 0..AT_ONCE {
            let here = min(at + i, count - 1);
            next = select(tokens[here] == token, min(next, here as u32), next);
        }
        at += AT_ONCE;
    }
    links[place] = next;
    links[count + place] = earlier;
}

/// The third coordinate of a cube is that of its block of columns, the others are those of its place.
#[cube(launch)]
fn add_up<F: Float, S: Float, I: Int, N: Size>(
    tokens: &Tensor<I>,               // [N]
    links: &Tensor<u32>,              // [2, N]
    grad: &Tensor<Vector<F, N>>,      // [N, C]
    table: &mut Tensor<Vector<F, N>>, // [V, C], zeros
    #[define(F, S, I)] _dtypes: [StorageType; 3],
) {
    let count = tokens.len();
    let vectors = table.shape(1) / N::value();
    let place = CUBE_POS_X as usize + CUBE_POS_Y as usize * CUBE_COUNT_X as usize;
    let column = CUBE_POS_Z as usize * UNITS + UNIT_POS as usize;
    // A place that is none has no link, and reads another's.
    let is_first = links[count + min(place, count - 1)] == 0;
    if place < count && column < vectors && is_first {
        let mut sum = Vector::<S, N>::cast_from(grad[place * vectors + column]);
        let mut at = links[place] as usize;
        while at < count {
            sum += Vector::<S, N>::cast_from(grad[at * vectors + column]);
            at = links[at] as usize;
        }
        let token = usize::cast_from(tokens[place]);
        table[token * vectors + column] = Vector::cast_from(sum);
    }
}
