//! What gradients cost in memory, in one graph and in the ways that save it.
//!
//! Allocations of all threads are counted, so this is a program of its own, with one test.
#![cfg(feature = "flex")]

use burn::backend::{Autodiff, Flex};
use rwkv_core::config::RwkvConfig;
use rwkv_core::model::Rwkv;
use rwkv_train::backprop::Backprop;
use rwkv_train::config::RunConfig;
use rwkv_train::data::{Batch, Sample};
use rwkv_train::trainee::Trainee;
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicIsize, Ordering};

type B = Autodiff<Flex>;

static NOW: AtomicIsize = AtomicIsize::new(0);
static PEAK: AtomicIsize = AtomicIsize::new(0);

struct Counting;

fn count(bytes: isize) {
    let now = NOW.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(now, Ordering::Relaxed);
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

/// Megabytes above what was held before, at most, for the gradients of one row of `time` tokens.
fn peak(how: &str, time: usize, vocab: usize) -> f64 {
    let config = RunConfig::from_toml(&format!("[train]\n{how}")).expect("valid");
    let model = Rwkv::<B>::new(&RwkvConfig::new(vocab, 6, 64), 0, &Default::default());
    let trainee = Trainee::new(model, &config).expect("fits");
    let tokens = (0..=time).map(|i| (i * 31 % vocab) as u32).collect();
    let batch = Batch::new([Sample::plain(tokens)].into_iter(), time);
    let gradients = || Backprop::new(&config).gradients(&trainee, &batch, 0..1, 1.0 / batch.weight());
    drop(gradients()); // whatever is made once
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    drop(gradients());
    (PEAK.load(Ordering::Relaxed) - before) as f64 / 1e6
}

#[test]
fn memory_is_flat_in_time_in_chunks_and_small_with_checkpoints() {
    let whole = "loss_chunk = 0";
    let blocks = "checkpoint_blocks = true\nloss_chunk = 64";
    let chunks = "checkpoint_blocks = true\nloss_chunk = 64\nbptt_chunk = 64";
    let table: Vec<[f64; 4]> = [256, 1024, 4096]
        .map(|time| [time as f64, peak(whole, time, 64), peak(blocks, time, 64), peak(chunks, time, 64)])
        .to_vec();
    for [time, whole, blocks, chunks] in &table {
        println!(
            "T = {time}: one graph {whole:.1} MB, checkpointed blocks {blocks:.1} MB, and chunks of 64 {chunks:.1} MB"
        );
    }
    let growth = |way: usize| table[2][way] / table[0][way];
    assert!(growth(1) > 8.0, "one graph grows with T: {}", growth(1));
    // What is left is the state at every seam: 5·C·L numbers, 0.5 MB for 64 chunks.
    assert!(growth(3) < 1.35, "chunks hardly do: {}", growth(3));
    assert!(table[2][2] * 3.0 < table[2][1], "checkpointed blocks keep less than a third");

    // All logits of 1024 positions over a vocabulary of 20,000 are 82 MB, and their gradient takes their place.
    let (all, some) = (peak("loss_chunk = 0", 1024, 20_000), peak("loss_chunk = 64", 1024, 20_000));
    println!("V = 20000: all logits at once {all:.1} MB, 64 positions at a time {some:.1} MB");
    assert!((60.0..100.0).contains(&(all - some)), "{all} {some}");
}
