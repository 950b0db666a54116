//! The official order of windows: a cubic permutation modulo a prime.

use crate::error::{Error, Result};

/// The order in which the released models saw their windows: `offset(ii) = (f·ii³ mod p)·ctx_len`.
///
/// `p` is the largest prime `≡ 2 (mod 3)` of at most `⌊tokens / ctx_len⌋`, so that cubing is a bijection modulo `p` and
/// `ii = 1, …, p` visits every multiple of `ctx_len` below `p·ctx_len` once. `f = ⌊p·(√5 − 1)/2⌋`, in doubles.
///
/// # Example
/// ```
/// use rwkv_train::data::MagicPrime;
/// // The Pile, at the released models' length.
/// let pile = MagicPrime::new(332_115_325_534, 1024).unwrap();
/// assert_eq!((pile.prime, pile.factor, pile.offset(1)), (324_331_313, 200_447_775, 205_258_521_600));
/// ```
///
/// # Source
/// `RWKV-LM/RWKV-v4neo/src/dataset.py`, `RWKV-LM/RWKV-v5/compute_magic_prime.py`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MagicPrime {
    /// `p`.
    pub prime: u64,
    /// `f`.
    pub factor: u64,
    /// Tokens between two offsets.
    pub ctx_len: u64,
}

impl MagicPrime {
    /// The order for a stream of `tokens`.
    ///
    /// # Errors
    /// [`Error::NoMagicPrime`] when the prime leaves out a hundredth of the places or more, which the official trainer
    /// refuses too. That happens to short texts only.
    ///
    /// # Panics
    /// When `ctx_len` is zero.
    pub fn new(tokens: u64, ctx_len: u64) -> Result<Self> {
        let slots = tokens / ctx_len;
        // A window has a token more, for the last target; where `ctx_len` divides `tokens` the last place lacks it.
        let usable = tokens.saturating_sub(1) / ctx_len;
        let prime = (2..=usable).rev().find(|&n| n % 3 == 2 && is_prime(n));
        let enough = |prime: &u64| *prime as f64 / slots as f64 > 0.99;
        let Some(p) = prime.filter(enough) else {
            return Err(Error::NoMagicPrime { tokens, ctx_len, slots, prime });
        };
        let factor = (p as f64 * ((5f64.sqrt() - 1.0) / 2.0)) as u64;
        Ok(Self { prime: p, factor, ctx_len })
    }

    /// Where window `ii` begins, in tokens. The official trainer counts from 1.
    #[must_use]
    pub fn offset(&self, ii: u64) -> u64 {
        let times = |a, b| multiply(a, b, self.prime);
        let ii = ii % self.prime;
        times(times(times(self.factor, ii), ii), ii) * self.ctx_len
    }
}

fn multiply(a: u64, b: u64, modulus: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(modulus)) as u64
}

/// Miller and Rabin's test with the bases that decide every 64-bit number.
///
/// # Source
/// J. P. Sorenson and J. Webster, "Strong pseudoprimes to twelve prime bases", 2015.
fn is_prime(n: u64) -> bool {
    const BASES: [u64; 12] = [2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37];
    if n < 2 {
        return false;
    }
    if let Some(base) = BASES.iter().find(|&base| n.is_multiple_of(*base)) {
        return n == *base;
    }
    let twos = (n - 1).trailing_zeros();
    BASES.iter().all(|&base| {
        let (mut power, mut square, mut exponent) = (1, base, (n - 1) >> twos);
        while exponent > 0 {
            if exponent & 1 == 1 {
                power = multiply(power, square, n);
            }
            square = multiply(square, square, n);
            exponent >>= 1;
        }
        power == 1
            || (0..twos).any(|_| {
                let minus_one = power == n - 1;
                power = multiply(power, power, n);
                minus_one
            })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The tokens of the Pile in the 20B tokenizer.
    const PILE: u64 = 332_115_325_534;

    #[test]
    fn the_published_primes_and_offsets_come_out() {
        for (ctx_len, prime) in [(1024, 324_331_313), (2048, 162_165_671), (4096, 81_082_817), (8192, 40_541_399)] {
            assert_eq!(MagicPrime::new(PILE, ctx_len).expect("large").prime, prime, "ctx_len {ctx_len}");
        }
        let order = MagicPrime::new(PILE, 1024).expect("large");
        assert_eq!(order.factor, 200_447_775);
        assert_eq!([1, 2, 3].map(|ii| order.offset(ii)), [205_258_521_600, 313_607_114_752, 228_135_851_008]);
    }

    #[test]
    fn short_texts_are_refused_with_their_numbers() {
        let said = MagicPrime::new(13 * 16, 16).expect_err("11 of 13").to_string();
        assert!(said.contains("13 places") && said.contains("reaches 11"), "{said}");
        assert!(MagicPrime::new(16, 16).expect_err("none").to_string().contains("reaches none"));
        assert!(MagicPrime::new(0, 16).is_err());
        // 1013 ≡ 2 (mod 3) is a prime; the last of exactly 1013 places has no token for its last target.
        assert_eq!(MagicPrime::new(1013 * 8 + 1, 8).expect("all").prime, 1013);
        assert_ne!(MagicPrime::new(1013 * 8, 8).map(|order| order.prime).ok(), Some(1013));
    }

    #[test]
    fn primality_agrees_with_a_sieve_and_with_known_hard_numbers() {
        let mut sieve = vec![true; 20_000];
        (sieve[0], sieve[1]) = (false, false);
        for i in 2..sieve.len() {
            if sieve[i] {
                (2 * i..sieve.len()).step_by(i).for_each(|multiple| sieve[multiple] = false);
            }
        }
        assert!(sieve.iter().enumerate().all(|(n, &prime)| is_prime(n as u64) == prime));
        // A strong pseudoprime to the bases 2 to 31 (37 decides), a square, the largest 64-bit prime and its successor.
        assert!(!is_prime(3_825_123_056_546_413_051) && !is_prime(4_294_967_291 * 4_294_967_291));
        assert!(is_prime(18_446_744_073_709_551_557) && !is_prime(18_446_744_073_709_551_558));
    }

    proptest! {
        #[test]
        fn every_place_is_visited_once(tokens in 1_000_u64..60_000, ctx_len in 1_u64..8) {
            let Ok(order) = MagicPrime::new(tokens, ctx_len) else { return Ok(()) };
            let mut seen = vec![false; order.prime as usize];
            for ii in 1..=order.prime {
                let offset = order.offset(ii);
                prop_assert!(offset % ctx_len == 0 && offset + ctx_len < tokens);
                prop_assert!(!std::mem::replace(&mut seen[(offset / ctx_len) as usize], true));
            }
            prop_assert_eq!(order.offset(1), order.offset(order.prime + 1), "then it begins again");
        }
    }
}
