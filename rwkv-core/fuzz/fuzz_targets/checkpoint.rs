//! Any bytes as a checkpoint: an error, or a model; never a panic.
//!
//! ```sh
//! cd rwkv-core/fuzz
//! mkdir -p corpus/checkpoint && find ../tests/fixtures/checkpoints -type f -exec cp --backup=numbered {} corpus/checkpoint \;
//! cargo +nightly fuzz run checkpoint -- -max_len=20000 -malloc_limit_mb=64
//! ```
#![no_main]

use burn::backend::Flex;
use libfuzzer_sys::fuzz_target;
use rwkv_core::checkpoint::Checkpoint;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(checkpoint) = Checkpoint::from_bytes("fuzz".as_ref(), bytes.to_vec()) {
        let model = checkpoint.model::<Flex>(&Default::default()).expect("what opens also loads");
        assert_eq!(&model.config(), checkpoint.config());
    }
});
