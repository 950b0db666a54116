//! Whether a backend's device is there.

use crate::error::{Error, Result};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

/// Runs one small operation on `device`, so that a missing adapter or driver is an error and not a panic later on.
///
/// Burn's GPU backends answer a missing driver with a panic on first use, which this catches; the process's panic hook
/// is silent meanwhile.
///
/// # Errors
/// [`Error::Device`] with what the backend said.
///
/// # Example
/// ```
/// # #[cfg(feature = "flex")]
/// rwkv_core::device::check::<burn::backend::Flex>("flex", &Default::default()).unwrap();
/// ```
pub fn check<B: Backend>(name: &'static str, device: &B::Device) -> Result<()> {
    // The hook is global: one check at a time.
    static HOOK: Mutex<()> = Mutex::new(());
    let _one_at_a_time = HOOK.lock().unwrap_or_else(PoisonError::into_inner);
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let sum = Tensor::<B, 1>::ones([4], device).sum().into_data();
        sum.iter::<f32>().next() == Some(4.0)
    }));
    std::panic::set_hook(hook);
    let problem = match outcome {
        Ok(true) => return Ok(()),
        Ok(false) => "1 + 1 + 1 + 1 is not 4 there".to_owned(),
        Err(panic) => panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string))
            .unwrap_or_else(|| "the driver did not start".to_owned()),
    };
    let problem = problem.lines().next().unwrap_or_default().to_owned();
    Err(Error::Device { backend: name, problem })
}
