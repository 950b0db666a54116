//! The parameters by their official names.

use super::Rwkv;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;

impl<B: Backend> Rwkv<B> {
    /// Official names and ids of all parameters, in the module's order.
    ///
    /// An id follows from its name, so it is the same in every process.
    ///
    /// # Example
    /// ```
    /// use rwkv_core::{config::RwkvConfig, model::Rwkv};
    /// # #[cfg(feature = "flex")] {
    /// let model = Rwkv::<burn::backend::Flex>::new(&RwkvConfig::new(65, 2, 32), 0, &Default::default());
    /// let names = model.named_parameters();
    /// assert!(names.iter().any(|(name, _)| name == "blocks.1.att.time_decay"));
    /// # }
    /// ```
    #[must_use]
    pub fn named_parameters(&self) -> Vec<(String, ParamId)> {
        let mut names = Names::default();
        self.visit(&mut names);
        names.found
    }
}

/// Where a walk through the module stands, in official names.
#[derive(Debug, Default)]
pub(crate) struct ParameterPath(Vec<String>);

impl ParameterPath {
    /// The walk enters a field of a module of this type. An enum's variant is no part of the name.
    pub(crate) fn enter(&mut self, field: &str, container: &str) {
        if is_enum(container) {
            return;
        }
        // Burn's layer norm has names of its own for its two vectors.
        let name = match field {
            "gamma" => "weight",
            "beta" => "bias",
            other => other,
        };
        self.0.push(name.to_owned());
    }

    /// The walk leaves a field of a module of this type.
    pub(crate) fn exit(&mut self, container: &str) {
        if !is_enum(container) {
            self.0.pop();
        }
    }

    /// The official name of the parameter that the walk is at.
    pub(crate) fn name(&self) -> String {
        self.0.join(".")
    }
}

/// Burn's derived modules call their types `Struct:NAME` and `Enum:NAME`.
fn is_enum(container: &str) -> bool {
    container.starts_with("Enum:")
}

#[derive(Default)]
struct Names {
    path: ParameterPath,
    found: Vec<(String, ParamId)>,
}

impl<B: Backend> ModuleVisitor<B> for Names {
    fn enter_module(&mut self, name: &str, container: &str) {
        self.path.enter(name, container);
    }

    fn exit_module(&mut self, _name: &str, container: &str) {
        self.path.exit(container);
    }

    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        self.found.push((self.path.name(), param.id));
    }
}
