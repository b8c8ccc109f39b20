//! Picks the next token from the logits. Pure and seeded: the same logits, settings and seed give the same token.
//!
//! Our own and not llama.cpp's, whose samplers assert on numbers that a damaged file can produce. The order of the steps
//! is llama.cpp's: penalties, `top_k`, `top_p`, `min_p`, temperature.

use std::collections::HashMap;

/// How to choose.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Sampling {
    /// 0 or less: always the likeliest token.
    pub(crate) temperature: f32,
    /// How many of the likeliest stay; 0 or less: all.
    pub(crate) top_k: i64,
    /// The likeliest that together reach this share stay; 1 or more: all.
    pub(crate) top_p: f32,
    /// Those with at least this share of the likeliest's probability stay.
    pub(crate) min_p: f32,
    /// Divides (or multiplies, below zero) the logits of recent tokens; 1: off.
    pub(crate) repeat_penalty: f32,
    /// How many tokens count as recent; negative: all.
    pub(crate) repeat_last_n: i64,
    /// Taken off each recent token once.
    pub(crate) presence_penalty: f32,
    /// Taken off each recent token as often as it occurred.
    pub(crate) frequency_penalty: f32,
    /// Start of the dice.
    pub(crate) seed: u64,
}

/// The state of one answer's choice.
#[derive(Debug)]
pub(crate) struct Sampler {
    how: Sampling,
    dice: SplitMix,
    candidates: Vec<(f32, i32)>,
}

impl Sampler {
    pub(crate) fn new(how: Sampling) -> Sampler {
        let dice = SplitMix(how.seed);
        Sampler { how, dice, candidates: Vec::new() }
    }

    /// The next token; `so_far` is everything read and written until now. `None` if no logit is a number.
    pub(crate) fn choose(&mut self, logits: &[f32], so_far: &[i32]) -> Option<i32> {
        self.candidates.clear();
        let numbered = (0i32..).zip(logits).filter(|(_, logit)| logit.is_finite());
        self.candidates.extend(numbered.map(|(token, logit)| (*logit, token)));
        self.penalise(so_far);
        if self.how.temperature <= 0.0 {
            return self.likeliest();
        }
        self.keep_top_k();
        self.keep_top_p();
        self.keep_min_p();
        self.throw_dice()
    }

    fn likeliest(&self) -> Option<i32> {
        let mut best: Option<(f32, i32)> = None;
        for &(logit, token) in &self.candidates {
            if best.is_none_or(|(most, _)| logit > most) {
                best = Some((logit, token));
            }
        }
        best.map(|(_, token)| token)
    }

    fn penalise(&mut self, so_far: &[i32]) {
        let how = &self.how;
        let off = how.repeat_penalty == 1.0 && how.presence_penalty == 0.0 && how.frequency_penalty == 0.0;
        let window = usize::try_from(how.repeat_last_n).unwrap_or(usize::MAX).min(so_far.len());
        if off || window == 0 {
            return;
        }
        let mut times: HashMap<i32, f32> = HashMap::new();
        for token in so_far.iter().rev().take(window) {
            *times.entry(*token).or_default() += 1.0;
        }
        for (logit, token) in &mut self.candidates {
            if let Some(times) = times.get(token) {
                if how.repeat_penalty > 0.0 {
                    *logit =
                        if *logit > 0.0 { *logit / how.repeat_penalty } else { *logit * how.repeat_penalty };
                }
                *logit -= how.presence_penalty + times * how.frequency_penalty;
            }
        }
        self.candidates.retain(|(logit, _)| logit.is_finite());
    }

    fn keep_top_k(&mut self) {
        let by_logit = |a: &(f32, i32), b: &(f32, i32)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        let k = usize::try_from(self.how.top_k).unwrap_or(0);
        if k > 0 && k < self.candidates.len() {
            self.candidates.select_nth_unstable_by(k - 1, by_logit);
            self.candidates.truncate(k);
        }
        self.candidates.sort_unstable_by(by_logit);
    }

    fn keep_top_p(&mut self) {
        if self.how.top_p >= 1.0 || self.candidates.is_empty() {
            return;
        }
        let shares = shares(&self.candidates, 1.0);
        let whole: f64 = shares.iter().sum();
        let enough = f64::from(self.how.top_p.max(0.0)) * whole;
        let mut sum = 0.0;
        let reached = shares.iter().position(|share| {
            sum += share;
            sum >= enough
        });
        self.candidates.truncate(reached.map_or(self.candidates.len(), |last| last + 1));
    }

    fn keep_min_p(&mut self) {
        if self.how.min_p > 0.0
            && let Some((most, _)) = self.candidates.first().copied()
        {
            let least = most + self.how.min_p.min(1.0).ln();
            self.candidates.retain(|(logit, _)| *logit >= least);
        }
    }

    fn throw_dice(&mut self) -> Option<i32> {
        let shares = shares(&self.candidates, self.how.temperature);
        let whole: f64 = shares.iter().sum();
        let mut left = self.dice.fraction() * whole;
        for (share, (_, token)) in shares.iter().zip(&self.candidates) {
            left -= share;
            if left < 0.0 {
                return Some(*token);
            }
        }
        // Rounding can leave a crumb; the likeliest takes it.
        self.candidates.first().map(|(_, token)| *token)
    }
}

/// Shares of sorted candidates relative to the first one, which gets 1.
fn shares(sorted: &[(f32, i32)], temperature: f32) -> Vec<f64> {
    let most = sorted.first().map_or(0.0, |(logit, _)| f64::from(*logit));
    sorted.iter().map(|(logit, _)| ((f64::from(*logit) - most) / f64::from(temperature)).exp()).collect()
}

/// `SplitMix64` (Steele, Lea, Flood 2014): small, seedable, good enough for dice that guard nothing.
#[derive(Debug)]
struct SplitMix(u64);

impl SplitMix {
    fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        (z >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how() -> Sampling {
        Sampling {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            repeat_penalty: 1.0,
            repeat_last_n: 64,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: 7,
        }
    }

    fn drawn(how: Sampling, logits: &[f32], times: usize) -> Vec<i32> {
        let mut sampler = Sampler::new(how);
        (0..times).map(|_| sampler.choose(logits, &[]).unwrap()).collect()
    }

    #[test]
    fn no_temperature_takes_the_first_of_the_likeliest() {
        let cold = Sampling { temperature: 0.0, ..how() };
        assert_eq!(drawn(cold, &[1.0, 3.0, 3.0, f32::NAN, f32::INFINITY], 3), [1, 1, 1]);
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let logits = [1.0, 1.1, 0.9, 1.05];
        let wide = Sampling { top_p: 1.0, temperature: 1.5, ..how() };
        let first = drawn(wide.clone(), &logits, 50);
        assert_eq!(first, drawn(wide.clone(), &logits, 50));
        assert_ne!(first, drawn(Sampling { seed: 8, ..wide }, &logits, 50));
        assert!((0..4).all(|token| first.contains(&token)), "{first:?}");
    }

    #[test]
    fn each_filter_leaves_out_the_unlikely() {
        let logits = [0.0, 2.0, 1.9, -3.0];
        let wide = Sampling { temperature: 5.0, top_p: 1.0, top_k: 0, ..how() };
        let seen = |how: Sampling| {
            let mut all = drawn(how, &logits, 300);
            all.sort_unstable();
            all.dedup();
            all
        };
        assert_eq!(seen(wide.clone()), [0, 1, 2, 3]);
        assert_eq!(seen(Sampling { top_k: 2, ..wide.clone() }), [1, 2]);
        assert_eq!(seen(Sampling { top_p: 0.85, ..wide.clone() }), [1, 2]);
        assert_eq!(seen(Sampling { top_p: 0.0, ..wide.clone() }), [1]);
        assert_eq!(seen(Sampling { min_p: 0.1, ..wide }), [0, 1, 2]);
    }

    #[test]
    fn penalties_push_recent_tokens_down() {
        let cold = Sampling { temperature: 0.0, repeat_penalty: 2.0, ..how() };
        assert_eq!(Sampler::new(cold.clone()).choose(&[3.0, 2.0], &[0]), Some(1));
        assert_eq!(Sampler::new(Sampling { repeat_last_n: 0, ..cold }).choose(&[3.0, 2.0], &[0]), Some(0));
        let counted = Sampling { temperature: 0.0, frequency_penalty: 0.6, ..how() };
        assert_eq!(Sampler::new(counted.clone()).choose(&[3.0, 2.0], &[0]), Some(0));
        assert_eq!(Sampler::new(counted).choose(&[3.0, 2.0], &[0, 0]), Some(1));
    }

    #[test]
    fn no_number_at_all_is_told() {
        assert_eq!(Sampler::new(how()).choose(&[f32::NAN, f32::NEG_INFINITY], &[]), None);
        assert_eq!(Sampler::new(how()).choose(&[], &[]), None);
    }
}
