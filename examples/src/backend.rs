//! The choice of a backend by name.

use clap::ValueEnum;

/// The backends that programs know. Which of them are compiled in is a matter of cargo features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Backend {
    /// CPU, on the `gemm` crate.
    Flex,
    /// CPU, on the `ndarray` crate.
    Ndarray,
    /// GPU through Vulkan, Metal, DirectX 12 or OpenGL.
    Wgpu,
    /// NVIDIA GPU.
    Cuda,
}

impl Backend {
    /// The backend when none is named: the fastest CPU backend there is, or whatever else is compiled in.
    #[must_use]
    pub fn or_default(choice: Option<Self>) -> Self {
        let compiled_in = [
            (cfg!(feature = "flex"), Self::Flex),
            (cfg!(feature = "ndarray"), Self::Ndarray),
            (cfg!(feature = "cuda"), Self::Cuda),
            (cfg!(feature = "wgpu"), Self::Wgpu),
        ];
        let default = compiled_in.into_iter().find(|(there, _)| *there).map_or(Self::Flex, |(_, backend)| backend);
        choice.unwrap_or(default)
    }

    /// The backend's name, which is its cargo feature's, too.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Flex => "flex",
            Self::Ndarray => "ndarray",
            Self::Wgpu => "wgpu",
            Self::Cuda => "cuda",
        }
    }
}

/// The sentence for a backend that is not compiled in.
#[must_use]
pub fn not_compiled_in(backend: Backend) -> crate::Failure {
    let name = backend.name();
    crate::Failure(format!("backend {name} is not compiled in; build with --features {name}"))
}

/// Evaluates an expression with a backend's type and its default device, after a look whether the device is there.
///
/// The expression is compiled once for every backend that is compiled in, and returns `Result<_, Failure>`.
#[macro_export]
macro_rules! with_backend {
    ($choice:expr, |$B:ident, $device:ident| $body:expr) => {{
        let choice: $crate::Backend = $choice;
        match choice {
            #[cfg(feature = "flex")]
            $crate::Backend::Flex => $crate::with_backend!(@run choice, burn::backend::Flex, $B, $device, $body),
            #[cfg(feature = "ndarray")]
            $crate::Backend::Ndarray => {
                $crate::with_backend!(@run choice, burn::backend::NdArray<f32>, $B, $device, $body)
            }
            #[cfg(feature = "wgpu")]
            $crate::Backend::Wgpu => $crate::with_backend!(@run choice, burn::backend::Wgpu, $B, $device, $body),
            #[cfg(feature = "cuda")]
            $crate::Backend::Cuda => $crate::with_backend!(@run choice, burn::backend::Cuda, $B, $device, $body),
            #[allow(unreachable_patterns)]
            other => Err($crate::backend::not_compiled_in(other)),
        }
    }};
    (@run $choice:expr, $type:ty, $B:ident, $device:ident, $body:expr) => {{
        type $B = $type;
        let $device = Default::default();
        rwkv_core::device::check::<$B>($choice.name(), &$device)?;
        $body
    }};
}
