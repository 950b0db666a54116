//! The device's peak, for the MFU.

use crate::Failure;
use rwkv_core::error::Error;
use rwkv_core::ops::RwkvAutodiffBackend;
use rwkv_train::flops;
use std::str::FromStr;

/// Where the device's peak comes from.
#[derive(Clone, Copy)]
pub(super) enum Peak {
    Given(f64),
    Measure,
}

impl FromStr for Peak {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.parse() {
            _ if text == "measure" => Ok(Self::Measure),
            Ok(peak) if f64::is_finite(peak) && peak > 0.0 => Ok(Self::Given(peak)),
            _ => Err(Error::config("peak_flops", "a positive number or `measure`", text)),
        }
    }
}

impl Peak {
    pub(super) fn of<B: RwkvAutodiffBackend>(self, device: &B::Device) -> Result<f64, Failure> {
        match self {
            Self::Given(peak) => Ok(peak),
            Self::Measure => Ok(flops::measured_peak::<B::InnerBackend>(device)?),
        }
    }
}
