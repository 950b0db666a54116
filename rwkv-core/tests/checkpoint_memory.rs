//! What checkpoints cost in memory: good ones the model and one tensor, damaged ones next to nothing.
//!
//! Allocations are counted per thread, so this is a program of its own.
#![cfg(feature = "flex")]

use burn::backend::Flex;
use chacha20::ChaCha8Rng;
use rand::{Rng, RngExt, SeedableRng};
use rwkv_core::checkpoint::{Checkpoint, ExportOptions, FileDtype, Format, save};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::{Precision, Rwkv};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

struct Counting;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let now = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        now.get()
    });
    if let Ok(now) = now {
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    }
}

// SAFETY: every request goes to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `body` and returns the most bytes that this thread held above what it held before.
fn peak_of<T>(body: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.get();
    PEAK.set(before);
    let result = body();
    (result, usize::try_from(PEAK.get() - before).unwrap_or(0))
}

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/checkpoints").join(name)
}

/// A damaged copy: cut, overwritten, or with a piece moved; most damage goes where the structure is.
fn mutate(whole: &[u8], rng: &mut impl Rng) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..rng.random_range(1..=3) {
        if bytes.len() < 16 {
            break;
        }
        let len = bytes.len();
        let at = match rng.random_range(0..4) {
            0 => rng.random_range(0..len.min(128)),
            1 => len - 1 - rng.random_range(0..len.min(4096)),
            _ => rng.random_range(0..len),
        };
        match rng.random_range(0..6) {
            0 => bytes.truncate(at),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = rng.random(),
            3 => {
                // Numbers that are too large, of two, four or eight bytes.
                let extreme = [0xff, 0x7f, 0x80, 0x00][rng.random_range(0..4)];
                let end = len.min(at + [2, 4, 8][rng.random_range(0..3)]);
                bytes[at..end].fill(extreme);
            }
            4 => {
                let end = len.min(at + rng.random_range(1..64));
                bytes.drain(at..end);
            }
            _ => {
                let end = len.min(at + rng.random_range(1..64));
                let piece = bytes[at..end].to_vec();
                let to = rng.random_range(0..len);
                bytes.splice(to..to, piece);
            }
        }
    }
    bytes
}

/// What happened to a damaged file: refused, or loaded as a model.
fn try_open(open: impl FnOnce() -> rwkv_core::error::Result<Checkpoint>) -> bool {
    match open() {
        Ok(checkpoint) => {
            let config = checkpoint.config().clone();
            let model = checkpoint.model::<Flex>(&Default::default()).expect("what opens also loads");
            assert_eq!(model.config(), config);
            true
        }
        Err(error) => {
            assert!(!error.to_string().contains('\n'), "{error}");
            false
        }
    }
}

const MUTATIONS: u64 = 500;
/// The files have some 15 kB.
const ENOUGH: usize = 2 << 20;

/// Damages a file in 500 ways; returns how many were refused.
fn survive(name: &str, whole: &[u8], open: impl Fn(Vec<u8>) -> rwkv_core::error::Result<Checkpoint>) -> u64 {
    let mut refused = 0;
    let mut most = 0;
    for seed in 0..MUTATIONS {
        let bytes = mutate(whole, &mut ChaCha8Rng::seed_from_u64(seed));
        let (outcome, peak) = peak_of(|| catch_unwind(AssertUnwindSafe(|| try_open(|| open(bytes)))));
        let loaded = outcome.unwrap_or_else(|_| panic!("{name}: mutation {seed} must not panic"));
        assert!(peak < ENOUGH, "{name}: mutation {seed} took {peak} bytes");
        most = most.max(peak);
        refused += u64::from(!loaded);
    }
    println!("{name}: {refused} of {MUTATIONS} refused, at most {most} bytes");
    refused
}

#[test]
fn damaged_files_are_refused_without_panic_or_large_allocations() {
    for name in [
        "f32.pth",
        "f16.pth",
        "bf16.pth",
        "hugging_face/model.safetensors",
        "hugging_face_torch/pytorch_model.bin",
        "ggmf_f32.bin",
        "ggmf_f16.bin",
    ] {
        let whole = std::fs::read(fixture(name)).expect("the fixture is committed");
        let refused = survive(name, &whole, |bytes| Checkpoint::from_bytes(Path::new(name), bytes));
        // Damage to the numbers alone leaves a valid file, so not all are refused; nor may all be accepted.
        assert!((MUTATIONS / 4..MUTATIONS).contains(&refused), "{name}: {refused}");
    }
}

#[test]
fn damaged_indices_are_refused_without_panic_or_large_allocations() {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(fixture("hugging_face_shards")).expect("the fixture is committed") {
        let entry = entry.expect("an entry");
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    let index = folder.path().join("model.safetensors.index.json");
    let whole = std::fs::read(&index).expect("the fixture is committed");
    let refused = survive("index", &whole, |bytes| {
        std::fs::write(&index, bytes).expect("written");
        Checkpoint::open(folder.path())
    });
    assert!((MUTATIONS / 2..MUTATIONS).contains(&refused), "{refused}");
}

#[test]
fn loading_takes_the_weights_and_one_tensor() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RwkvConfig { dim_att: 192, dim_ffn: 400, ..RwkvConfig::new(1000, 4, 128) };
    let official = folder.path().join("model.safetensors");
    save(&Rwkv::<Flex>::new(&config, 0, &Default::default()), &official).expect("saves");
    for (format, dtype) in [(Format::Official, FileDtype::Bf16), (Format::RwkvCpp, FileDtype::F16)] {
        let half = folder.path().join("half");
        let options = ExportOptions { dtype: Some(dtype), ..ExportOptions::default() };
        let (outcome, exporting) =
            peak_of(|| Checkpoint::open(&official).and_then(|source| source.export(&half, format, &options)));
        outcome.expect("exports");
        let (checkpoint, opening) = peak_of(|| Checkpoint::open(&half).expect("opens"));
        let (model, loading) = peak_of(|| checkpoint.model::<Flex>(&Default::default()).expect("loads"));
        let weights = 4 * model.num_params_lazy();
        let largest = 4 * config.vocab_size * config.n_embd;
        println!("{format:?}: {weights} bytes of weights; exporting {exporting}, opening {opening}, loading {loading}");
        assert!(loading >= weights, "the weights themselves are counted");
        assert!(loading < weights + largest, "loading took {loading} bytes for {weights} of weights");
        assert!(opening < 200_000 && exporting < 200_000, "{opening}, {exporting}");
    }
}

#[test]
fn loading_in_fewer_bits_never_holds_the_weights_in_more() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = RwkvConfig { dim_att: 192, dim_ffn: 400, ..RwkvConfig::new(1000, 4, 128) };
    let official = folder.path().join("model.safetensors");
    save(&Rwkv::<Flex>::new(&config, 0, &Default::default()), &official).expect("saves");
    let checkpoint = Checkpoint::open(&official).expect("opens");
    let matrices = 2 * config.vocab_size * config.n_embd + config.n_layer * (4 * 192 * 128 + 2 * 400 * 128 + 128 * 128);
    let vectors = config.num_params() - matrices;
    for (precision, bytes) in [(Precision::Bf16, 2), (Precision::F16, 2), (Precision::Int8, 1)] {
        let (model, loading) = peak_of(|| checkpoint.model_in::<Flex>(precision, &Default::default()).expect("loads"));
        assert!(model.only_runs());
        // With `int8` the embedding table has two bytes a number, and every row a scale.
        let table = if bytes == 1 { config.vocab_size * config.n_embd } else { 0 };
        let scales = if bytes == 1 { 4 * (1000 + 4 * (3 * 192 + 128 + 400 + 2 * 128)) } else { 0 };
        let weights = bytes * matrices + table + scales + 4 * vectors;
        println!("{}: {weights} bytes of weights, loading {loading}", precision.name());
        assert!(loading >= weights, "the weights themselves are counted: {loading} of {weights}");
        assert!(loading < weights + 100_000, "loading took {loading} bytes for {weights} of weights");
    }
}
