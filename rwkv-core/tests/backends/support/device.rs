//! GPUs that may be missing.

use burn::tensor::backend::Backend;

/// Whether the backend's device works; if not, says that the test is skipped, and why.
///
/// Where `RWKV_REQUIRE_DEVICES` names the backend, as in CI, a missing device is a failure.
#[cfg_attr(not(any(feature = "wgpu", feature = "cuda")), allow(dead_code, reason = "CPUs are always there"))]
pub fn has_device<B: Backend>(backend: &'static str, test: &str) -> bool {
    match rwkv_core::device::check::<B>(backend, &Default::default()) {
        Ok(()) => true,
        Err(error) => {
            let required = std::env::var("RWKV_REQUIRE_DEVICES").unwrap_or_default();
            assert!(!required.split(',').any(|name| name == backend), "{backend} is required: {error}");
            say(&format!("SKIPPED {test} on {backend}: {error}"));
            false
        }
    }
}

/// Writes a line to stderr past the test harness, which keeps the output of tests that pass.
pub fn say(line: &str) {
    use std::io::Write;
    writeln!(std::io::stderr(), "{line}").expect("stderr is open");
}
