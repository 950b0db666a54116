//! Gradients as few long vectors, and back.

use super::error::{Error, Result};
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::GradientsParams;
use burn::tensor::backend::AutodiffBackend;
use burn::tensor::{DType, Tensor};

/// The most elements that share a vector; a larger gradient has one of its own.
const LIMIT: usize = 1 << 22;

/// The gradients of a module's parameters in the order of its fields, end to end.
pub(super) struct Buckets<B: AutodiffBackend> {
    pieces: Vec<Piece>,
    pub(super) vectors: Vec<Tensor<B::InnerBackend, 1>>,
    /// What of this all workers must have alike: which parameters have a gradient, of which shapes.
    pub(super) signature: u64,
}

struct Piece {
    param: ParamId,
    vector: usize,
    elements: usize,
    /// The gradient's own type.
    dtype: DType,
}

impl<B: AutodiffBackend> Buckets<B> {
    /// Takes the gradients out of their container.
    ///
    /// Parameters without a gradient are skipped. Sums are made in `f32`, or in `f64` where gradients are that.
    ///
    /// # Errors
    /// [`Error::Disagree`] when there are gradients of parameters that the module does not have.
    pub(super) fn pack<M: Module<B>>(module: &M, grads: GradientsParams) -> Result<Self> {
        let mut pack =
            Pack::<B> { grads, pieces: Vec::new(), open: Vec::new(), done: Vec::new(), hash: Hash::default() };
        module.visit(&mut pack);
        pack.close();
        if !pack.grads.is_empty() {
            return Err(Error::Disagree(format!("the module: {} gradients are not of it", pack.grads.len())));
        }
        Ok(Self { pieces: pack.pieces, vectors: pack.done, signature: pack.hash.0 })
    }

    /// The gradients with the values that the vectors have now.
    pub(super) fn unpack<M: Module<B>>(self, module: &M) -> GradientsParams {
        let mut unpack = Unpack::<B> {
            pieces: self.pieces.into_iter(),
            next: None,
            vectors: self.vectors,
            at: (0, 0),
            grads: GradientsParams::new(),
        };
        unpack.next = unpack.pieces.next();
        module.visit(&mut unpack);
        unpack.grads
    }
}

/// FNV-1a over words: the same in every process, whatever built it.
struct Hash(u64);

impl Default for Hash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hash {
    fn add(&mut self, word: u64) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

struct Pack<B: AutodiffBackend> {
    grads: GradientsParams,
    pieces: Vec<Piece>,
    open: Vec<Tensor<B::InnerBackend, 1>>,
    done: Vec<Tensor<B::InnerBackend, 1>>,
    hash: Hash,
}

impl<B: AutodiffBackend> Pack<B> {
    fn close(&mut self) {
        match self.open.len() {
            0 => {}
            1 => self.done.append(&mut self.open),
            _ => self.done.push(Tensor::cat(std::mem::take(&mut self.open), 0)),
        }
    }
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Pack<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(grad) = self.grads.remove::<B::InnerBackend, D>(param.id) else {
            self.hash.add(0);
            return;
        };
        let dtype = grad.dtype();
        let sum_dtype = if dtype == DType::F64 { DType::F64 } else { DType::F32 };
        let elements = grad.dims().iter().product();
        self.hash.add(if sum_dtype == DType::F64 { 2 } else { 1 });
        for dim in grad.dims() {
            self.hash.add(dim as u64);
        }
        let open_elements: usize = self.open.iter().map(|open| open.dims()[0]).sum();
        let fits = open_elements + elements <= LIMIT && self.open.last().is_none_or(|open| open.dtype() == sum_dtype);
        if !fits {
            self.close();
        }
        self.open.push(grad.cast(sum_dtype).reshape([elements]));
        self.pieces.push(Piece { param: param.id, vector: self.done.len(), elements, dtype });
    }
}

struct Unpack<B: AutodiffBackend> {
    pieces: std::vec::IntoIter<Piece>,
    next: Option<Piece>,
    vectors: Vec<Tensor<B::InnerBackend, 1>>,
    /// The vector that is being read, and how much of it has been.
    at: (usize, usize),
    grads: GradientsParams,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Unpack<B> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let Some(piece) = self.next.take_if(|piece| piece.param == param.id) else {
            return;
        };
        self.next = self.pieces.next();
        if self.at.0 != piece.vector {
            self.at = (piece.vector, 0);
        }
        let whole = &self.vectors[piece.vector];
        let part = if whole.dims()[0] == piece.elements {
            whole.clone()
        } else {
            whole.clone().narrow(0, self.at.1, piece.elements)
        };
        self.at.1 += piece.elements;
        let grad = part.reshape(param.shape()).cast(piece.dtype);
        self.grads.register::<B::InnerBackend, D>(param.id, grad);
    }
}
