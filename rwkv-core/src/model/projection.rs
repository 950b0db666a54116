//! The model's matrices: parameters that train, or numbers that only run, packed or in pieces.

use super::init::Initializer;
use crate::ops::cross_entropy::cross_entropy;
use crate::ops::embedding::embedding;
use crate::ops::head_loss::head_loss;
use crate::ops::linear::linear;
use crate::ops::packed::{PackedMatrix, packed_linear, packed_rows};
use crate::ops::{RwkvBackend, inner_dtype};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{DType, Int, Tensor};

/// A projection without bias, as everywhere in RWKV-4: `y = W·x`.
///
/// The weight is a parameter, `[in, out]`, unless [`Self::pack`] replaced it by a [`PackedMatrix`], `[out, in]`, or
/// [`Self::cut`] by tensors that a device with small buffers can hold. A [LoRA](super::Lora) adapter may stand beside it,
/// whatever it is: `y = W·x + scale·B·A·x`.
#[derive(Module, Debug)]
pub struct Projection<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    packed: Option<PackedMatrix>,
    pieces: Vec<Tensor<B, 2>>, // [in, out_i]
    // Both or neither. Fields of their own, because a struct would add its field's name to the parameters'.
    lora_a: Option<Param<Tensor<B, 2>>>, // [in, r]
    lora_b: Option<Param<Tensor<B, 2>>>, // [r, out]
    #[module(skip)]
    lora_scale: f64,
}

impl<B: Backend> Projection<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str, inputs: usize, out: usize) -> Self {
        Self::from_weight(init.matrix(&format!("{name}.weight"), inputs, out))
    }

    /// A projection with this weight, `[in, out]`.
    #[must_use]
    pub fn from_weight(weight: Param<Tensor<B, 2>>) -> Self {
        let (packed, pieces) = (None, Vec::new());
        Self { weight: Some(weight), packed, pieces, lora_a: None, lora_b: None, lora_scale: 0.0 }
    }

    /// The adapter's two parameters, `A`, `[in, r]`, and `B`, `[r, out]`, and their factor, if there is an adapter.
    #[must_use]
    #[expect(clippy::type_complexity, reason = "two parameters and a number")]
    pub fn adapter(&self) -> Option<(&Param<Tensor<B, 2>>, &Param<Tensor<B, 2>>, f64)> {
        Some((self.lora_a.as_ref()?, self.lora_b.as_ref()?, self.lora_scale))
    }

    /// Puts an adapter beside the weight, in the place of one that is there.
    ///
    /// # Panics
    /// When its matrices do not fit each other or the weight.
    pub fn adapt(&mut self, a: Param<Tensor<B, 2>>, b: Param<Tensor<B, 2>>, scale: f64) {
        let ([inputs, rank], [inner, out]) = (a.lazy_shape().dims(), b.lazy_shape().dims());
        assert_eq!(([inputs, out], inner), (self.shape(), rank), "an adapter of another shape");
        (self.lora_a, self.lora_b, self.lora_scale) = (Some(a), Some(b), scale);
    }

    /// Takes the adapter away.
    pub fn remove_adapter(&mut self) {
        (self.lora_a, self.lora_b) = (None, None);
    }

    /// Adds the adapter to the weight, `W ← W + scale·A·B`, and takes it away. The weight asks for a gradient if it did
    /// before.
    ///
    /// # Panics
    /// When the weight is no parameter.
    pub fn merge_adapter(&mut self) {
        let Some((a, b, scale)) = self.adapter() else { return };
        // No part of a graph: the sum is a new weight.
        let update = a.val().set_require_grad(false).matmul(b.val().set_require_grad(false)).mul_scalar(scale);
        let weight = self.weight.take().expect("only a parameter takes an adapter in");
        self.weight = Some(weight.map(|weight| {
            let trains = weight.is_require_grad();
            let update = update.cast(weight.dtype());
            (weight.set_require_grad(false) + update).set_require_grad(trains)
        }));
        self.remove_adapter();
    }

    /// The parameter, `[in, out]`; nothing when the weight is packed.
    #[must_use]
    pub fn weight(&self) -> Option<&Param<Tensor<B, 2>>> {
        self.weight.as_ref()
    }

    /// The packed weight, `[out, in]`.
    #[must_use]
    pub fn packed(&self) -> Option<&PackedMatrix> {
        self.packed.as_ref()
    }

    /// The weight as tensors of consecutive columns, `[in, out_i]`; nothing when it is packed.
    #[must_use]
    pub(super) fn tensors(&self) -> Option<Vec<Tensor<B, 2>>> {
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => Some(vec![weight.val()]),
            Held::Packed(_) => None,
            Held::Pieces(pieces) => Some(pieces.to_vec()),
        }
    }

    /// Puts a packed weight, `[out, in]`, in the place of the parameter.
    ///
    /// # Panics
    /// When it is of another shape.
    pub fn pack(&mut self, packed: PackedMatrix) {
        assert_eq!([packed.columns(), packed.rows()], self.shape(), "a packed weight of another shape");
        (self.weight, self.packed, self.pieces) = (None, Some(packed), Vec::new());
    }

    /// Puts consecutive columns of the weight, `[in, out_i]`, in the place of the parameter.
    ///
    /// # Panics
    /// When together they are of another shape.
    pub fn cut(&mut self, pieces: Vec<Tensor<B, 2>>) {
        let [inputs, out] = self.shape();
        assert!(pieces.iter().all(|piece| piece.dims()[0] == inputs), "pieces of another height");
        assert_eq!(pieces.iter().map(|piece| piece.dims()[1]).sum::<usize>(), out, "pieces of another width");
        (self.weight, self.packed, self.pieces) = (None, None, pieces);
    }

    /// A weight that is no parameter, `[in, out]`, row by row.
    pub(crate) fn values(&self) -> Option<Vec<f32>> {
        let [inputs, out] = self.shape();
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(_) => None,
            Held::Packed(packed) => {
                let rows = packed.unpack();
                Some((0..inputs).flat_map(|i| rows.iter().skip(i).step_by(inputs).copied()).collect())
            }
            Held::Pieces(pieces) => {
                let mut values = vec![0.0; inputs * out];
                let mut first = 0;
                for piece in pieces {
                    let width = piece.dims()[1];
                    let numbers = host(piece.clone());
                    for (row, numbers) in values.chunks_exact_mut(out).zip(numbers.chunks_exact(width)) {
                        row[first..first + width].copy_from_slice(numbers);
                    }
                    first += width;
                }
                Some(values)
            }
        }
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => weight.lazy_shape().dims(),
            Held::Packed(packed) => [packed.columns(), packed.rows()],
            Held::Pieces(pieces) => [pieces[0].dims()[0], pieces.iter().map(|piece| piece.dims()[1]).sum()],
        }
    }
}

impl<B: RwkvBackend> Projection<B> {
    /// Projects every row: `[…, in]` to `[…, out]`.
    pub fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let adapted = self.adapter().map(|(a, b, scale)| {
            let dtype = x.dtype();
            linear(linear(x.clone(), a.val().cast(dtype)), b.val().cast(dtype)).mul_scalar(scale)
        });
        let y = match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => linear(x, weight.val()),
            Held::Packed(packed) => packed_linear(x, packed),
            Held::Pieces(pieces) => {
                Tensor::cat(pieces.iter().map(|piece| linear(x.clone(), piece.clone())).collect(), D - 1)
            }
        };
        match adapted {
            None => y,
            Some(adapted) => y + adapted,
        }
    }

    /// The loss of the targets when this is the head: [`head_loss`], or the like for a weight that is no parameter or has an
    /// adapter.
    ///
    /// # Panics
    /// As [`head_loss`].
    pub(super) fn loss(
        &self,
        x: Tensor<B, 2>,
        targets: Tensor<B, 1, Int>,
        weights: Option<Tensor<B, 1>>,
        l2_wrap: f32,
        chunk: usize,
    ) -> Tensor<B, 1> {
        if let (Held::Parameter(weight), None) = (held(&self.weight, &self.packed, &self.pieces), self.adapter()) {
            return head_loss(x, weight.val(), targets, weights, l2_wrap, chunk);
        }
        let [count, _] = x.dims();
        let sums = (0..count).step_by(chunk).map(|start| {
            let length = chunk.min(count - start);
            let x = x.clone().narrow(0, start, length);
            let logits = self.forward(x);
            let inside = inner_dtype(logits.dtype());
            let losses = cross_entropy(logits.cast(inside), targets.clone().narrow(0, start, length), l2_wrap);
            match &weights {
                None => losses.sum(),
                Some(weights) => (losses * weights.clone().narrow(0, start, length)).sum(),
            }
        });
        Tensor::cat(sums.collect(), 0).sum()
    }
}

/// The embedding table, `[V, C]`: a parameter, unless [`Self::pack`] or [`Self::cut`] replaced it.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    packed: Option<PackedMatrix>,
    pieces: Vec<Tensor<B, 2>>, // [V_i, C]
}

impl<B: Backend> Embedding<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str, vocab: usize, width: usize) -> Self {
        let weight = init.tensor(&format!("{name}.weight"), [vocab, width]);
        Self { weight: Some(weight), packed: None, pieces: Vec::new() }
    }

    /// The parameter; nothing when the table is packed.
    #[must_use]
    pub fn weight(&self) -> Option<&Param<Tensor<B, 2>>> {
        self.weight.as_ref()
    }

    /// The packed table.
    #[must_use]
    pub fn packed(&self) -> Option<&PackedMatrix> {
        self.packed.as_ref()
    }

    /// Puts a packed table in the place of the parameter.
    ///
    /// # Panics
    /// When it is of another shape.
    pub fn pack(&mut self, packed: PackedMatrix) {
        assert_eq!([packed.rows(), packed.columns()], self.shape(), "a packed table of another shape");
        *self = Self { weight: None, packed: Some(packed), pieces: Vec::new() };
    }

    /// Puts consecutive rows of the table, `[V_i, C]`, in the place of the parameter.
    ///
    /// # Panics
    /// When together they are of another shape.
    pub fn cut(&mut self, pieces: Vec<Tensor<B, 2>>) {
        let [vocab, width] = self.shape();
        assert!(pieces.iter().all(|piece| piece.dims()[1] == width), "pieces of another width");
        assert_eq!(pieces.iter().map(|piece| piece.dims()[0]).sum::<usize>(), vocab, "pieces of another height");
        *self = Self { weight: None, packed: None, pieces };
    }

    /// A table that is no parameter, row by row.
    pub(crate) fn values(&self) -> Option<Vec<f32>> {
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(_) => None,
            Held::Packed(packed) => Some(packed.unpack()),
            Held::Pieces(pieces) => Some(pieces.iter().flat_map(|piece| host(piece.clone())).collect()),
        }
    }

    /// `V` and `C`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => weight.lazy_shape().dims(),
            Held::Packed(packed) => [packed.rows(), packed.columns()],
            Held::Pieces(pieces) => [pieces.iter().map(|piece| piece.dims()[0]).sum(), pieces[0].dims()[1]],
        }
    }

    /// The table transposed, as a projection from `C` to `V` that follows it.
    pub(super) fn as_head(&self) -> Projection<B> {
        let (packed, pieces) = match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => (None, vec![weight.val().transpose()]),
            Held::Packed(packed) => (Some(packed.clone()), Vec::new()),
            Held::Pieces(pieces) => (None, pieces.iter().map(|piece| piece.clone().transpose()).collect()),
        };
        Projection { weight: None, packed, pieces, lora_a: None, lora_b: None, lora_scale: 0.0 }
    }
}

impl<B: RwkvBackend> Embedding<B> {
    /// Rows of the table: `[B, T]` to `[B, T, C]`.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        match held(&self.weight, &self.packed, &self.pieces) {
            Held::Parameter(weight) => embedding(weight.val(), tokens),
            Held::Packed(packed) => packed_rows(packed, tokens),
            Held::Pieces(pieces) => rows_of_pieces(pieces, tokens),
        }
    }
}

/// What a matrix consists of.
enum Held<'a, B: Backend> {
    Parameter(&'a Param<Tensor<B, 2>>),
    Packed(&'a PackedMatrix),
    Pieces(&'a [Tensor<B, 2>]),
}

/// Fields of their own: the parameter stays where it is in the module, whatever takes its place.
fn held<'a, B: Backend>(
    weight: &'a Option<Param<Tensor<B, 2>>>,
    packed: &'a Option<PackedMatrix>,
    pieces: &'a [Tensor<B, 2>],
) -> Held<'a, B> {
    match (weight, packed) {
        (Some(weight), _) => Held::Parameter(weight),
        (None, Some(packed)) => Held::Packed(packed),
        (None, None) => Held::Pieces(pieces),
    }
}

/// Rows of a table in pieces: every piece gives its own rows, and zeros in the place of the others'.
fn rows_of_pieces<B: Backend>(pieces: &[Tensor<B, 2>], tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
    let mut first = 0;
    let mut rows: Option<Tensor<B, 3>> = None;
    for piece in pieces {
        let count = piece.dims()[0] as i64;
        let local = tokens.clone() - first;
        let own = local.clone().greater_equal_elem(0).bool_and(local.clone().lower_elem(count));
        let own = own.float().cast(piece.dtype()).unsqueeze_dim::<3>(2); // [B, T, 1]
        let of_piece = burn::tensor::module::embedding(piece.clone(), local.clamp(0, count - 1)) * own;
        rows = Some(match rows {
            None => of_piece,
            Some(sum) => sum + of_piece,
        });
        first += count;
    }
    rows.expect("a table has at least one piece")
}

fn host<B: Backend>(tensor: Tensor<B, 2>) -> Vec<f32> {
    tensor.into_data().convert_dtype(DType::F32).iter::<f32>().collect()
}
