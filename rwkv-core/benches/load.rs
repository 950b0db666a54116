//! How long a checkpoint takes to load, and the most memory that the process ever had.
//!
//! ```sh
//! cargo bench -p rwkv-core --bench load -- FILE
//! ```
//!
//! Peak memory is the process's, so each file needs a run of its own.
#![cfg_attr(not(feature = "flex"), allow(dead_code, unused_imports))]

#[cfg(feature = "flex")]
use burn::backend::Flex;
use rwkv_core::checkpoint::Checkpoint;
use std::path::PathBuf;
use std::time::Instant;

/// The largest resident set of this process so far, in MB, where the system tells.
fn peak_megabytes() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? * 1024.0 / 1e6)
}

#[cfg(not(feature = "flex"))]
fn main() {
    println!("this measurement is of the backend flex");
}

#[cfg(feature = "flex")]
fn main() {
    let Some(file) = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).map(PathBuf::from) else {
        println!("give a checkpoint: cargo bench -p rwkv-core --bench load -- FILE");
        return;
    };
    let before = peak_megabytes();
    let started = Instant::now();
    let checkpoint = match Checkpoint::open(&file) {
        Ok(checkpoint) => checkpoint,
        Err(error) => return println!("{error}"),
    };
    let opened = started.elapsed();
    let model = match checkpoint.model::<Flex>(&Default::default()) {
        Ok(model) => model,
        Err(error) => return println!("{error}"),
    };
    let loaded = started.elapsed();
    println!("{}: opened in {opened:.2?}, loaded in {loaded:.2?}", file.display());
    let weights = 4.0 * model.num_params_lazy() as f64 / 1e6;
    match (before, peak_megabytes()) {
        (Some(before), Some(peak)) => {
            println!("peak {peak:.0} MB (before: {before:.0} MB) for {weights:.0} MB of f32 weights");
        }
        _ => println!("{weights:.0} MB of f32 weights; this system does not tell peak memory"),
    }
}
