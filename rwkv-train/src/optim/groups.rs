//! Which parameters learn faster, and which decay.

use crate::config::Stage;

/// How parameters differ in the eyes of the optimizer.
///
/// # Source
/// Reference §4.2, the table of groups; `configure_optimizers` of the official `RWKV-v4neo/src/model.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Groups {
    /// Whether there are differences in the learning rate at all.
    pub layerwise_lr: bool,
    /// The phase of the training.
    pub stage: Stage,
}

impl Groups {
    /// The factor on the learning rate of the parameter with this official name.
    #[must_use]
    pub fn lr_scale(self, name: &str) -> f64 {
        let of_time = ["time_mix", "time_decay", "time_first"].into_iter().find(|part| name.contains(part));
        match (of_time, self.stage) {
            _ if !self.layerwise_lr => 1.0,
            (Some(_), Stage::Time) => 5.0,
            (Some("time_decay"), Stage::Main) => 2.0,
            (Some("time_first"), Stage::Main) => 3.0,
            _ => 1.0,
        }
    }

    /// Whether weight decay acts on the parameter: on matrices, the embedding among them, and on nothing else.
    #[must_use]
    pub fn decays(self, name: &str, rank: usize) -> bool {
        rank == 2 && !name.contains("time_")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_groups() {
        let main = Groups { layerwise_lr: true, stage: Stage::Main };
        let time = Groups { stage: Stage::Time, ..main };
        let none = Groups { layerwise_lr: false, ..main };
        for (name, scales) in [
            ("blocks.3.att.time_mix_k", [1.0, 5.0, 1.0]),
            ("blocks.3.att.time_decay", [2.0, 5.0, 1.0]),
            ("blocks.3.att.time_first", [3.0, 5.0, 1.0]),
            ("blocks.3.att.key.weight", [1.0, 1.0, 1.0]),
            ("emb.weight", [1.0, 1.0, 1.0]),
            ("blocks.0.ln0.weight", [1.0, 1.0, 1.0]),
        ] {
            assert_eq!([main, time, none].map(|groups| groups.lr_scale(name)), scales, "{name}");
        }
        assert!(main.decays("emb.weight", 2) && main.decays("blocks.0.att.key.weight", 2));
        assert!(!main.decays("blocks.0.ln1.weight", 1) && !main.decays("blocks.0.att.time_mix_k", 3));
    }
}
