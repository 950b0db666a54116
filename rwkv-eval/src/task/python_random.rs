//! The draws of Python's `random.Random`, so that worked examples and resamples are those of the reference harness.

use rand_mt::Mt;

/// A generator that draws what `random.Random(seed)` draws.
///
/// # Source
/// `CPython`'s `random` module: the Mersenne twister MT19937 seeded by the seed's 32-bit words, `sample` and `choices`.
#[derive(Debug)]
pub struct PythonRandom(Mt);

impl PythonRandom {
    /// `random.Random(seed)`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let (low, high) = (seed as u32, (seed >> 32) as u32);
        let words = if high == 0 { vec![low] } else { vec![low, high] };
        Self(Mt::new_with_key(words))
    }

    /// `random.sample(range(population), count)`.
    ///
    /// # Panics
    /// When there are not so many.
    pub fn sample(&mut self, population: usize, count: usize) -> Vec<usize> {
        assert!(count <= population, "a sample of {count} from {population}");
        // Python takes a table where that is smaller than a set; the draws differ.
        let mut set_size = 21;
        if count > 5 {
            let exponent = ((count * 3) as f64).ln() / 4f64.ln();
            set_size += 4usize.saturating_pow(exponent.ceil() as u32);
        }
        let mut drawn = Vec::with_capacity(count);
        if population <= set_size {
            let mut pool: Vec<usize> = (0..population).collect();
            for i in 0..count {
                let j = self.below(population - i);
                drawn.push(pool[j]);
                pool[j] = pool[population - i - 1];
            }
        } else {
            while drawn.len() < count {
                let j = self.below(population);
                if !drawn.contains(&j) {
                    drawn.push(j);
                }
            }
        }
        drawn
    }

    /// One draw of `random.choices(range(population))`.
    pub fn choice(&mut self, population: usize) -> usize {
        let (a, b) = (self.0.next_u32() >> 5, self.0.next_u32() >> 6);
        let unit = (f64::from(a) * 67_108_864.0 + f64::from(b)) / 9_007_199_254_740_992.0;
        (unit * population as f64) as usize
    }

    /// A number below `limit`: as many bits as it has, until they are below it.
    fn below(&mut self, limit: usize) -> usize {
        let bits = usize::BITS - limit.leading_zeros();
        assert!((1..=32).contains(&bits), "fewer than 2^32 things to draw from, and at least one");
        loop {
            let number = (self.0.next_u32() >> (32 - bits)) as usize;
            if number < limit {
                return number;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PythonRandom;

    /// What `random.Random(1234)` of Python 3.11 said.
    #[test]
    fn draws_are_those_of_python() {
        let mut random = PythonRandom::new(1234);
        assert_eq!(random.sample(100, 3), SAMPLES.0);
        assert_eq!(random.sample(10, 4), SAMPLES.1);
        assert_eq!(random.sample(1000, 8), SAMPLES.2);
        assert_eq!((0..6).map(|_| random.choice(50)).collect::<Vec<_>>(), SAMPLES.3);
        assert_eq!(PythonRandom::new((7 << 32) + 5).sample(5000, 3), SAMPLES.4);
    }

    type Samples = ([usize; 3], [usize; 4], [usize; 8], [usize; 6], [usize; 3]);
    const SAMPLES: Samples =
        ([99, 56, 14], [0, 1, 9, 5], [709, 85, 100, 784, 363, 242, 17, 31], [49, 0, 32, 24, 23, 4], [2718, 1430, 3079]);
}
