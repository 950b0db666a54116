//! The model's matrices: parameters that train, or packed numbers that only run.

use super::init::Initializer;
use crate::ops::RwkvBackend;
use crate::ops::packed::{PackedMatrix, packed_linear, packed_rows};
use burn::module::{Module, Param};
use burn::tensor::backend::Backend;
use burn::tensor::{Int, Tensor};

/// A projection without bias, as everywhere in RWKV-4: `y = W·x`.
///
/// The weight is a parameter, `[in, out]`, unless [`Self::pack`] replaced it by a [`PackedMatrix`], `[out, in]`.
#[derive(Module, Debug)]
pub struct Projection<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    packed: Option<PackedMatrix>,
}

impl<B: Backend> Projection<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str, inputs: usize, out: usize) -> Self {
        Self::from_weight(init.matrix(&format!("{name}.weight"), inputs, out))
    }

    /// A projection with this weight, `[in, out]`.
    #[must_use]
    pub fn from_weight(weight: Param<Tensor<B, 2>>) -> Self {
        Self { weight: Some(weight), packed: None }
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

    /// Puts a packed weight, `[out, in]`, in the place of the parameter.
    ///
    /// # Panics
    /// When it is of another shape.
    pub fn pack(&mut self, packed: PackedMatrix) {
        assert_eq!([packed.columns(), packed.rows()], self.shape(), "a packed weight of another shape");
        *self = Self { weight: None, packed: Some(packed) };
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match held(&self.weight, &self.packed) {
            Held::Parameter(weight) => weight.lazy_shape().dims(),
            Held::Packed(packed) => [packed.columns(), packed.rows()],
        }
    }
}

impl<B: RwkvBackend> Projection<B> {
    /// Projects every row: `[N, in]` to `[N, out]`.
    pub fn rows(&self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        match held(&self.weight, &self.packed) {
            Held::Parameter(weight) => x.matmul(weight.val()),
            Held::Packed(packed) => packed_linear(x, packed),
        }
    }

    /// Projects every token: `[B, T, in]` to `[B, T, out]`.
    ///
    /// The tokens of all sequences form one matrix. As a batch of matrices, the weight's gradient would be computed once
    /// per sequence and summed.
    pub fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let [batch, time, inputs] = x.dims();
        let y = self.rows(x.reshape([batch * time, inputs]));
        let [_, out] = y.dims();
        y.reshape([batch, time, out])
    }
}

/// The embedding table, `[V, C]`: a parameter, unless [`Self::pack`] replaced it.
#[derive(Module, Debug)]
pub struct Embedding<B: Backend> {
    weight: Option<Param<Tensor<B, 2>>>,
    #[module(skip)]
    packed: Option<PackedMatrix>,
}

impl<B: Backend> Embedding<B> {
    pub(super) fn new(init: &Initializer<'_, B>, name: &str, vocab: usize, width: usize) -> Self {
        Self { weight: Some(init.tensor(&format!("{name}.weight"), [vocab, width])), packed: None }
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
        *self = Self { weight: None, packed: Some(packed) };
    }

    /// `V` and `C`.
    #[must_use]
    pub fn shape(&self) -> [usize; 2] {
        match held(&self.weight, &self.packed) {
            Held::Parameter(weight) => weight.lazy_shape().dims(),
            Held::Packed(packed) => [packed.rows(), packed.columns()],
        }
    }

    /// Rows of the table: `[B, T]` to `[B, T, C]`.
    pub fn forward(&self, tokens: Tensor<B, 2, Int>) -> Tensor<B, 3> {
        match held(&self.weight, &self.packed) {
            Held::Parameter(weight) => burn::tensor::module::embedding(weight.val(), tokens),
            Held::Packed(packed) => packed_rows(packed, tokens),
        }
    }
}

/// What a matrix consists of.
enum Held<'a, B: Backend> {
    Parameter(&'a Param<Tensor<B, 2>>),
    Packed(&'a PackedMatrix),
}

/// Two fields, because an enum of them would add its variant's name to the parameter's official one.
fn held<'a, B: Backend>(weight: &'a Option<Param<Tensor<B, 2>>>, packed: &'a Option<PackedMatrix>) -> Held<'a, B> {
    match (weight, packed) {
        (Some(weight), _) => Held::Parameter(weight),
        (None, Some(packed)) => Held::Packed(packed),
        (None, None) => unreachable!("`new` sets the first field, and `pack` sets the second when it clears it"),
    }
}
