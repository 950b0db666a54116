//! Training, tested on Flex. One test program, because each compiles the model and its gradients anew.

#[path = "../../../rwkv-core/tests/backends/support/fixture.rs"]
mod fixture;
#[cfg(feature = "flex")]
#[path = "../support/small_run.rs"]
mod small_run;
#[cfg(feature = "flex")]
#[path = "../support/mod.rs"]
mod support;

#[cfg(feature = "flex")]
mod backprop;
#[cfg(feature = "flex")]
mod exact_match;
#[cfg(feature = "flex")]
mod golden;
#[cfg(feature = "flex")]
mod instructions;
#[cfg(feature = "flex")]
mod looks;
#[cfg(feature = "flex")]
mod mixers;
#[cfg(all(feature = "flex", feature = "collective"))]
mod parallel;
#[cfg(feature = "flex")]
mod recipe;
#[cfg(feature = "flex")]
mod runs;
#[cfg(feature = "flex")]
mod tasks;
mod token_file;
#[cfg(feature = "flex")]
mod tuning;
