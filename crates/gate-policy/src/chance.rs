//! Chance as an argument: a small generator of random numbers that a seed repeats. Not for secrets.

/// A stream of random numbers (SplitMix64: 64 bits of state, passes the usual tests, one multiplication chain per number).
#[derive(Debug, Clone)]
pub struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of this seed; any seed will do.
    #[must_use]
    pub fn seeded(seed: u64) -> Self {
        Chance { state: seed }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// True once in `n` times; always for `n` of 0 and 1.
    pub fn one_in(&mut self, n: u32) -> bool {
        self.some_in(1, n)
    }

    /// True `some` times in `n`; always for `n` of 0 and where `some` is not less.
    pub fn some_in(&mut self, some: u32, n: u32) -> bool {
        // A 32-bit fraction of the range: its bias is below 2^-32 * n, and nothing here needs better.
        (u128::from(self.next()) * u128::from(n)) >> 64 < u128::from(some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_three_is_a_third_and_repeats() {
        let count = |seed| {
            let mut chance = Chance::seeded(seed);
            (0..30_000).filter(|_| chance.one_in(3)).count()
        };
        assert!((9_500..10_500).contains(&count(1)), "{}", count(1));
        assert_eq!(count(7), count(7));
    }

    #[test]
    fn two_in_five_is_two_fifths() {
        let mut chance = Chance::seeded(3);
        let count = (0..30_000).filter(|_| chance.some_in(2, 5)).count();
        assert!((11_400..12_600).contains(&count), "{count}");
        assert!((0..100).all(|_| chance.some_in(5, 5)));
    }

    #[test]
    fn one_in_one_is_certain() {
        let mut chance = Chance::seeded(0);
        assert!((0..100).all(|_| chance.one_in(1)));
    }
}
