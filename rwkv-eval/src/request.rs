//! What a model is asked: how probable a text is after another, or what it would write.

/// Tokens whose probability after other tokens is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenRequest {
    /// What stands before, at least one token.
    pub context: Vec<u32>,
    /// What is scored, at least one token.
    pub continuation: Vec<u32>,
}

impl TokenRequest {
    /// What the model reads: everything but the last token.
    pub fn input(&self) -> impl Iterator<Item = u32> {
        let read = self.continuation.len().saturating_sub(1);
        self.context.iter().chain(&self.continuation[..read]).copied()
    }

    /// How many tokens the model reads.
    #[must_use]
    pub fn input_len(&self) -> usize {
        (self.context.len() + self.continuation.len()).saturating_sub(1)
    }

    /// Cuts a request that reads more than `max_length` tokens from the left, as the reference harness does; says whether
    /// it did. A continuation that is longer by itself stays whole, with one token before it.
    pub fn cut(&mut self, max_length: usize) -> bool {
        let keep = (max_length + 1).saturating_sub(self.continuation.len()).max(1);
        let surplus = self.context.len().saturating_sub(keep);
        self.context.drain(..surplus);
        surplus > 0
    }
}

/// The answer to a [`TokenRequest`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Likelihood {
    /// `Σ ln p(token | all before it)` over the continuation, in nats.
    pub log_likelihood: f64,
    /// Whether every token of the continuation is the most probable one at its place; of equally probable ones the
    /// first counts.
    pub is_greedy: bool,
}

/// A text that is to be continued, by the most probable token each time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GenerateRequest {
    /// What stands before, at least one token.
    pub context: Vec<u32>,
}

/// Where texts that are written end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Until {
    /// Before any of these, which are then no part of the text.
    pub strings: Vec<String>,
    /// After so many tokens.
    pub max_tokens: usize,
}

/// The requests whose log-likelihoods add up to that of a whole text, in windows of at most `max_length` tokens as the
/// reference harness has them: disjoint, every token scored once, each after as many as fit before it.
///
/// The first token is predicted from `start`. An empty text has no requests.
///
/// # Example
/// ```
/// use rwkv_eval::request::{TokenRequest, rolling_windows};
/// let windows = rolling_windows(&[1, 2, 3, 4, 5], 0, 3);
/// let window = |context: &[u32], continuation: &[u32]| TokenRequest {
///     context: context.to_vec(),
///     continuation: continuation.to_vec(),
/// };
/// assert_eq!(windows, [window(&[0], &[1, 2, 3]), window(&[2, 3], &[4, 5])]);
/// ```
///
/// # Panics
/// When `max_length` is zero.
#[must_use]
pub fn rolling_windows(tokens: &[u32], start: u32, max_length: usize) -> Vec<TokenRequest> {
    assert!(max_length > 0, "a window holds at least one token");
    let first = tokens.len().min(max_length);
    if first == 0 {
        return Vec::new();
    }
    let mut windows = vec![TokenRequest { context: vec![start], continuation: tokens[..first].to_vec() }];
    let mut predicted = first;
    while predicted < tokens.len() {
        let end = tokens.len().min(predicted + max_length);
        // The window reads `max_length` tokens, the last of them the one before the window's last.
        let context = tokens[end - 1 - max_length..predicted].to_vec();
        windows.push(TokenRequest { context, continuation: tokens[predicted..end].to_vec() });
        predicted = end;
    }
    windows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_requests_lose_their_beginning_and_short_ones_nothing() {
        let request = |context: u32, continuation: u32| TokenRequest {
            context: (0..context).collect(),
            continuation: (100..100 + continuation).collect(),
        };
        let mut fits = request(8, 3); // reads 10
        assert!(!fits.cut(10));
        assert_eq!(fits, request(8, 3));
        let mut long = request(9, 3);
        assert!(long.cut(10));
        assert_eq!((long.context.first(), long.input_len()), (Some(&1), 10));
        let mut whole = request(5, 10);
        assert!(whole.cut(10));
        assert_eq!((whole.context, whole.continuation.len()), (vec![4], 10));
    }

    #[test]
    fn every_token_of_a_text_is_scored_once_after_as_many_as_fit() {
        for length in 0..23u32 {
            for max_length in 1..9usize {
                let tokens: Vec<u32> = (1..=length).collect();
                let windows = rolling_windows(&tokens, 0, max_length);
                let scored: Vec<u32> = windows.iter().flat_map(|window| window.continuation.clone()).collect();
                assert_eq!(scored, tokens);
                for window in &windows {
                    let input: Vec<u32> = window.input().collect();
                    assert!(input.windows(2).all(|pair| pair[0] + 1 == pair[1]));
                    assert_eq!(input.len(), max_length.min(length as usize), "{length} by {max_length}");
                }
            }
        }
    }
}
