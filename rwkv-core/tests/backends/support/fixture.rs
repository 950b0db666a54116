//! Files that `fixtures/make_fixtures.py` made.
#![allow(dead_code)] // each test program uses its part

use safetensors::{Dtype, SafeTensors};
use std::path::{Path, PathBuf};

/// One fixture file.
pub struct Fixture {
    bytes: Vec<u8>,
}

impl Fixture {
    /// Where the file is: in the package that cargo runs, or that a bundle names (`benches/bundle.sh`).
    pub fn path(name: &str) -> PathBuf {
        let package = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        PathBuf::from(package).join("tests/fixtures").join(format!("{name}.safetensors"))
    }

    pub fn open(name: &str) -> Self {
        Self::read(&Self::path(name))
    }

    pub fn read(path: &Path) -> Self {
        Self { bytes: std::fs::read(path).expect("the fixture is committed") }
    }

    /// A tensor's shape.
    pub fn shape(&self, name: &str) -> Vec<usize> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        file.tensor(name).expect("the fixture has it").shape().to_vec()
    }

    /// A tensor's values in row-major order.
    pub fn values(&self, name: &str) -> Vec<f64> {
        let file = SafeTensors::deserialize(&self.bytes).expect("a safetensors file");
        let tensor = file.tensor(name).unwrap_or_else(|_| panic!("the fixture has {name}"));
        let chunks = |n: usize| tensor.data().chunks_exact(n);
        match tensor.dtype() {
            Dtype::F32 => chunks(4).map(|x| f64::from(f32::from_le_bytes(x.try_into().expect("4 bytes")))).collect(),
            Dtype::F64 => chunks(8).map(|x| f64::from_le_bytes(x.try_into().expect("8 bytes"))).collect(),
            Dtype::I64 => chunks(8).map(|x| i64::from_le_bytes(x.try_into().expect("8 bytes")) as f64).collect(),
            other => panic!("{name} is of dtype {other:?}"),
        }
    }
}
