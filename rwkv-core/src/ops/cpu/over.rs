//! Results that take the place of an input: of the gradient that arrives, or of activations that nobody needs any more.
//!
//! Where no other tensor has the input's memory, a kernel writes over it; else every task copies its part first, which costs
//! what clearing it would. Kernels see no difference: they find the input in the memory that they write to.

use super::fresh::{Fresh, Part};
use super::tensors::{CpuBackend, read, write};
use burn::tensor::ops::FloatTensor;
use burn::tensor::{DType, Shape, TensorMetadata};

/// An input that a kernel is about to write over.
pub(in crate::ops) struct Over<B: CpuBackend> {
    input: B::Buffer,
    copy: Option<Fresh>,
    shape: Shape,
    dtype: DType,
    device: B::Device,
}

/// A part of an [`Over`], for one task.
pub(in crate::ops) enum Rewritten<'a> {
    /// The input's own memory.
    InPlace(&'a mut [f32]),
    /// New memory, and the part of the input that belongs there.
    Copied(Part<'a>, &'a [f32]),
}

impl<B: CpuBackend> Over<B> {
    /// Takes the tensor. The result will have its dtype.
    pub fn new(tensor: FloatTensor<B>) -> Self {
        let (shape, dtype, device) = (tensor.shape(), tensor.dtype(), B::float_device(&tensor));
        Self { input: read::<B>(tensor), copy: None, shape, dtype, device }
    }

    /// How many numbers it has.
    pub fn len(&self) -> usize {
        self.shape.num_elements()
    }

    /// All of it, in parts of this size; the last one may be shorter. Every one must be [taken](Rewritten::take), once.
    pub fn parts(&mut self, size: usize) -> Vec<Rewritten<'_>> {
        if B::elements_mut(&mut self.input).is_none() {
            let copy = self.copy.insert(Fresh::new(self.input.as_ref().len()));
            let parts = copy.parts(size).zip(self.input.as_ref().chunks(size));
            return parts.map(|(part, input)| Rewritten::Copied(part, input)).collect();
        }
        let own = B::elements_mut(&mut self.input).expect("nobody else has it, as was just seen");
        own.chunks_mut(size).map(Rewritten::InPlace).collect()
    }

    /// What the kernel made of it. A part in place that nobody took is the input's still.
    ///
    /// # Panics
    /// When a part of a copy was not taken.
    pub fn into_tensor(self) -> FloatTensor<B> {
        match self.copy {
            Some(copy) => write::<B>(copy.into_vec(), self.shape, self.dtype, &self.device),
            None => crate::ops::cast::<B>(B::tensor(self.input), self.dtype),
        }
    }
}

impl<'a> Rewritten<'a> {
    /// The part's numbers, those of the input.
    #[inline(always)] // inside the kernels
    pub fn take(self) -> &'a mut [f32] {
        match self {
            Self::InPlace(numbers) => numbers,
            Self::Copied(part, input) => part.copy(input),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn::tensor::{Tensor, TensorPrimitive};

    fn double<B: CpuBackend>(tensor: Tensor<B, 1>) -> Tensor<B, 1> {
        let mut over = Over::<B>::new(tensor.into_primitive().tensor());
        assert_eq!(over.len(), 10);
        let parts = over.parts(4);
        assert_eq!(parts.len(), 3);
        for part in parts {
            part.take().iter_mut().for_each(|x| *x *= 2.0);
        }
        Tensor::from_primitive(TensorPrimitive::Float(over.into_tensor()))
    }

    /// Where the numbers lie.
    fn address<B: CpuBackend>(tensor: &Tensor<B, 1>) -> *const f32 {
        read::<B>(tensor.clone().into_primitive().tensor()).as_ref().as_ptr()
    }

    fn a_tensor_is_written_over_only_where_nobody_else_has_it<B: CpuBackend>() {
        let numbers: Vec<f32> = (0..10).map(|i| i as f32 - 3.0).collect();
        let twice: Vec<f32> = numbers.iter().map(|x| 2.0 * x).collect();
        let values = |tensor: Tensor<B, 1>| tensor.into_data().to_vec::<f32>().expect("f32");

        let alone = Tensor::<B, 1>::from_data(numbers.as_slice(), &Default::default());
        let (place, doubled) = (address(&alone), double(alone));
        assert_eq!(address(&doubled), place, "the memory of the input");
        assert_eq!(values(doubled), twice);

        let shared = Tensor::<B, 1>::from_data(numbers.as_slice(), &Default::default());
        let doubled = double(shared.clone());
        assert_ne!(address(&doubled), address(&shared));
        assert_eq!((values(doubled), values(shared)), (twice, numbers), "the other tensor keeps its numbers");

        // Views of a larger tensor.
        let table: Vec<f32> = (0..20).map(|i| i as f32).collect();
        let table = Tensor::<B, 1>::from_data(table.as_slice(), &Default::default());
        for start in [0, 5, 10] {
            let doubled = double(table.clone().narrow(0, start, 10));
            assert_eq!(values(doubled), (start..start + 10).map(|i| 2.0 * i as f32).collect::<Vec<_>>());
        }
        assert_eq!(values(table), (0..20).map(|i| i as f32).collect::<Vec<_>>());
    }

    #[cfg(feature = "flex")]
    #[test]
    fn on_flex() {
        a_tensor_is_written_over_only_where_nobody_else_has_it::<burn::backend::Flex>();
    }

    #[cfg(feature = "ndarray")]
    #[test]
    fn on_ndarray() {
        a_tensor_is_written_over_only_where_nobody_else_has_it::<burn::backend::NdArray>();
    }
}
