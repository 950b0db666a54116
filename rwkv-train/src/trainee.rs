//! What learns: a model, and the state before its first token if that is to be tuned.

use crate::config::{RunConfig, TuneMethod};
use crate::error::Result;
use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rwkv_core::error::Error as CoreError;
use rwkv_core::model::Rwkv;
use rwkv_core::state::{InitialState, State};

/// A model and, for state tuning, the state that its sequences start from. What asks for a gradient learns.
#[derive(Module, Debug)]
pub struct Trainee<B: Backend> {
    /// The model.
    pub model: Rwkv<B>,
    /// The state before the first token; the empty state where there is none.
    pub initial_state: Option<InitialState<B>>,
}

impl<B: Backend> Trainee<B> {
    /// A model that learns as `[tune]` says: whole, by adapters, or by its initial state.
    ///
    /// # Errors
    /// What [`Rwkv::add_lora`] refuses, or an initial state for a model that is not RWKV-4.
    pub fn new(model: Rwkv<B>, config: &RunConfig) -> Result<Self> {
        let trainee = match config.tune.method {
            TuneMethod::Full => Self { model, initial_state: None },
            TuneMethod::Lora => Self { model: model.add_lora(&config.lora(), config.train.seed)?, initial_state: None },
            TuneMethod::State if !model.config().mixers.are_rwkv4() => {
                let expected = "full or lora for a model with other mixers than RWKV-4's";
                return Err(CoreError::config("method", expected, "state").into());
            }
            TuneMethod::State => {
                let initial_state = Some(InitialState::new(&model.config(), &model.device()));
                Self { model: model.frozen(), initial_state }
            }
        };
        trainee.visit(&mut Draw);
        Ok(trainee)
    }

    /// The state that `batch` sequences start from.
    #[must_use]
    pub fn start(&self, batch: usize) -> State<B> {
        match &self.initial_state {
            Some(initial) => initial.state(batch),
            None => self.model.zero_state(batch),
        }
    }

    /// How many numbers learn.
    #[must_use]
    pub fn num_trained(&self) -> usize {
        struct Count(usize);
        impl<B: Backend> ModuleVisitor<B> for Count {
            fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
                if param.val().is_require_grad() {
                    self.0 += param.lazy_shape().num_elements();
                }
            }
        }
        let mut count = Count(0);
        self.visit(&mut count);
        count.0
    }

    /// Names and ids of all parameters: the model's official ones, and `initial_state.layers.N.…`.
    #[must_use]
    pub fn named_parameters(&self) -> Vec<(String, ParamId)> {
        let mut names = self.model.named_parameters();
        for (l, layer) in self.initial_state.iter().flat_map(|initial| initial.layers.iter().enumerate()) {
            let of_layer = [("att_x", &layer.att_x), ("ffn_x", &layer.ffn_x), ("mean", &layer.mean)];
            let of_layer = of_layer.into_iter().chain([("log_weight", &layer.log_weight)]);
            names.extend(of_layer.map(|(name, param)| (format!("initial_state.layers.{l}.{name}"), param.id)));
        }
        names
    }
}

/// Draws the parameters that are not drawn yet. Clones of one that is not would each draw their own, and gradients of a
/// clone would not be the parameter's.
struct Draw;

impl<B: Backend> ModuleVisitor<B> for Draw {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<B, D>>) {
        let _ = param.val();
    }
}
