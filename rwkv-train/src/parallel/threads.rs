//! Several threads of one process, a device each: Burn's collective operations.

use super::error::{Error, Result};
use super::meeting::Meeting;
use burn::tensor::backend::{Backend, DeviceOps};
use burn::tensor::{Tensor, TensorPrimitive};
use burn_collective::{AllReduceStrategy, CollectiveConfig, CollectiveError, PeerId, ReduceOperation};
use std::any::TypeId;
use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{LazyLock, Mutex, PoisonError};

/// The backends that have a group: Burn has room for one each in a process.
static TAKEN: LazyLock<Mutex<HashSet<TypeId>>> = LazyLock::new(Mutex::default);

/// How many elements go through [`Order::ByRow`] at a time: the rows of all threads fit a CPU's cache.
const PART: usize = 1 << 16;

/// A group's hold on Burn's collective operations.
pub(super) struct Group {
    pub(super) backend: TypeId,
    threads: usize,
    order: Order,
    forget: fn(),
}

/// How the order of additions is made independent of who comes first.
enum Order {
    /// Burn's tree sorts by device, which is an order when all devices differ; and two numbers need none.
    ByDevice,
    /// Every thread adds to a row of its own, to zeros, which is exact; then the rows are added in the order of threads.
    ByRow,
    /// NVIDIA's library has an order of its own.
    #[cfg(feature = "nccl")]
    Nccl(super::nccl::Ring),
}

impl Group {
    /// Registers a thread for every device.
    pub(super) fn new<B: Backend>(devices: &[B::Device]) -> Result<Self> {
        let backend = TypeId::of::<B>();
        if !TAKEN.lock().unwrap_or_else(PoisonError::into_inner).insert(backend) {
            return Err(Error::Busy);
        }
        let distinct =
            devices.iter().enumerate().all(|(at, device)| devices[..at].iter().all(|d| d.id() != device.id()));
        let order = if distinct || devices.len() <= 2 { Order::ByDevice } else { Order::ByRow };
        #[cfg(feature = "nccl")]
        let order = super::nccl::Ring::new::<B>(devices).filter(|_| distinct).map_or(order, Order::Nccl);
        // From here on, dropping the group gives the backend back.
        let group = Self { backend, threads: devices.len(), order, forget: forget::<B> };
        forget::<B>();
        let config = CollectiveConfig::default()
            .with_num_devices(devices.len())
            .with_local_all_reduce_strategy(AllReduceStrategy::Tree(2));
        // Each registration waits for all others.
        std::thread::scope(|scope| {
            let register = |(rank, device): (usize, &B::Device)| {
                let (device, config) = (device.clone(), config.clone());
                scope.spawn(move || call(|| burn_collective::register::<B>(PeerId::from(rank), device, config)))
            };
            let registrations: Vec<_> = devices.iter().enumerate().map(register).collect();
            registrations.into_iter().try_for_each(|done| done.join().unwrap_or_else(|_| Err(crashed())))
        })?;
        Ok(group)
    }

    /// Frees everybody who waits inside Burn.
    pub(super) fn forget(&self) -> fn() {
        self.forget
    }

    /// The sum over all threads, which must all come here, with tensors of one shape.
    ///
    /// # Panics
    /// When the gradients are on another backend than the group's.
    pub(super) fn sum<B: Backend>(
        &self,
        meeting: &Meeting,
        thread: usize,
        tensor: Tensor<B, 1>,
    ) -> Result<Tensor<B, 1>> {
        assert_eq!(self.backend, TypeId::of::<B>(), "workers sum gradients of the backend that they were made for");
        let sum = |tensor: Tensor<B, 1>| {
            let sum = call(|| {
                let tensor = tensor.into_primitive().tensor();
                burn_collective::all_reduce::<B>(PeerId::from(thread), tensor, ReduceOperation::Sum)
            });
            sum.map(|sum| Tensor::from_primitive(TensorPrimitive::Float(sum)))
        };
        let outcome = match &self.order {
            Order::ByDevice => sum(tensor),
            Order::ByRow => {
                let parts = tensor.split(PART, 0).into_iter().map(|part| {
                    let elements = part.dims()[0];
                    sum(self.in_own_row(thread, part)).map(|rows| self.add_rows(rows, elements))
                });
                parts.collect::<Result<_>>().map(|parts| Tensor::cat(parts, 0))
            }
            #[cfg(feature = "nccl")]
            Order::Nccl(ring) => catch_unwind(AssertUnwindSafe(|| ring.sum(tensor))).map_err(|_| crashed()),
        };
        // Who was freed because somebody is lost reports that.
        outcome.map_err(|error| meeting.fail(error))
    }

    fn in_own_row<B: Backend>(&self, thread: usize, tensor: Tensor<B, 1>) -> Tensor<B, 1> {
        let [elements] = tensor.dims();
        let (device, dtype) = (tensor.device(), tensor.dtype());
        let zeros = |rows: usize| (rows > 0).then(|| Tensor::zeros([rows * elements], (&device, dtype)));
        let parts = [zeros(thread), Some(tensor), zeros(self.threads - 1 - thread)];
        Tensor::cat(parts.into_iter().flatten().collect(), 0)
    }

    fn add_rows<B: Backend>(&self, rows: Tensor<B, 1>, elements: usize) -> Tensor<B, 1> {
        let row = |thread: usize| rows.clone().narrow(0, thread * elements, elements);
        (1..self.threads).fold(row(0), |sum, thread| sum + row(thread))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        (self.forget)();
        TAKEN.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.backend);
    }
}

/// Whoever waits inside Burn for a peer gets an error; nobody is registered any more.
fn forget<B: Backend>() {
    // When Burn's own thread has ended, nobody waits for it.
    let _ = catch_unwind(burn_collective::reset_collective::<B>);
}

fn call<T>(operation: impl FnOnce() -> std::result::Result<T, CollectiveError>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(operation)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Collective(format!("{error:?}"))),
        Err(_) => Err(crashed()),
    }
}

fn crashed() -> Error {
    Error::Collective("it panicked".to_owned())
}
