//! A block of the model as one token reads it.

/// What a token reads of a block: numbers as `T`, matrices as `M`.
#[derive(Debug, Clone)]
pub struct DecodeBlock<T, M> {
    /// Weight and bias of `ln1`, each `[C]`.
    pub ln1: [T; 2],
    /// Weight and bias of `ln2`, each `[C]`.
    pub ln2: [T; 2],
    /// `time_mix_k`, `_v` and `_r` of the time-mix, each `[1, 1, C]`.
    pub att_mix: [T; 3],
    /// `time_decay`, `[A]`: the logarithm of the decay is `−exp` of it.
    pub time_decay: T,
    /// `time_first`, `[A]`.
    pub time_first: T,
    /// Key, value and receptance of the time-mix, from `C` to `A`.
    pub att: [M; 3],
    /// The time-mix's output, from `A` to `C`.
    pub att_output: M,
    /// `time_mix_k` and `_r` of the channel-mix, each `[1, 1, C]`.
    pub ffn_mix: [T; 2],
    /// The channel-mix's key, from `C` to `F`.
    pub ffn_key: M,
    /// The channel-mix's receptance, from `C` to `C`.
    pub ffn_receptance: M,
    /// The channel-mix's value, from `F` to `C`.
    pub ffn_value: M,
    /// What the stream is multiplied by after the block: 1, or ½ where deep models are rescaled in `f16`.
    pub scale: f32,
    /// What entered the time-mix at the token before, `[B, C]`.
    pub att_x: T,
    /// What entered the channel-mix at the token before, `[B, C]`.
    pub ffn_x: T,
    /// The WKV state before the token, `[B, 3, A]`.
    pub memory: T,
}

impl<T, M> DecodeBlock<T, M> {
    /// All numbers: the parameters that are no matrices, and the state.
    pub fn numbers(&self) -> impl Iterator<Item = &T> {
        let vectors = self.ln1.iter().chain(&self.ln2).chain(&self.att_mix).chain(&self.ffn_mix);
        vectors.chain([&self.time_decay, &self.time_first, &self.att_x, &self.ffn_x, &self.memory])
    }

    /// All matrices.
    pub fn matrices(&self) -> [&M; 7] {
        let [key, value, receptance] = &self.att;
        [key, value, receptance, &self.att_output, &self.ffn_key, &self.ffn_receptance, &self.ffn_value]
    }

    /// The same block by reference.
    #[must_use]
    pub fn each_ref(&self) -> DecodeBlock<&T, &M> {
        DecodeBlock {
            ln1: self.ln1.each_ref(),
            ln2: self.ln2.each_ref(),
            att_mix: self.att_mix.each_ref(),
            time_decay: &self.time_decay,
            time_first: &self.time_first,
            att: self.att.each_ref(),
            att_output: &self.att_output,
            ffn_mix: self.ffn_mix.each_ref(),
            ffn_key: &self.ffn_key,
            ffn_receptance: &self.ffn_receptance,
            ffn_value: &self.ffn_value,
            scale: self.scale,
            att_x: &self.att_x,
            ffn_x: &self.ffn_x,
            memory: &self.memory,
        }
    }

    /// The same block of other types, or nothing where `matrix` gives nothing. Both functions get `with`, in the order of the
    /// fields.
    pub fn map<C, U, N>(
        self,
        with: &mut C,
        number: impl Fn(&mut C, T) -> U,
        matrix: impl Fn(&mut C, M) -> Option<N>,
    ) -> Option<DecodeBlock<U, N>> {
        let [key, value, receptance] = self.att;
        Some(DecodeBlock {
            ln1: self.ln1.map(|t| number(with, t)),
            ln2: self.ln2.map(|t| number(with, t)),
            att_mix: self.att_mix.map(|t| number(with, t)),
            time_decay: number(with, self.time_decay),
            time_first: number(with, self.time_first),
            att: [matrix(with, key)?, matrix(with, value)?, matrix(with, receptance)?],
            att_output: matrix(with, self.att_output)?,
            ffn_mix: self.ffn_mix.map(|t| number(with, t)),
            ffn_key: matrix(with, self.ffn_key)?,
            ffn_receptance: matrix(with, self.ffn_receptance)?,
            ffn_value: matrix(with, self.ffn_value)?,
            scale: self.scale,
            att_x: number(with, self.att_x),
            ffn_x: number(with, self.ffn_x),
            memory: number(with, self.memory),
        })
    }
}
