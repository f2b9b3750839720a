//! The exact test of two shares.
//!
//! If both generations fail alike, each bad request falls to the new one with the probability that any request has to be its own, so
//! the count of the new one's has the binomial distribution (Przyborowski and Wilenski, 1940).

use std::f64::consts::TAU;

/// How likely at least `hits` of `trials` are hits, each with this probability. Where so many are to be expected anyway, it says 1:
/// nobody asks there, and the sum would be long.
pub fn tail(hits: u64, trials: u64, probability: f64) -> f64 {
    if hits as f64 <= trials as f64 * probability {
        return 1.0;
    }
    let (n, k) = (trials as f64, hits as f64);
    let choices = ln_factorial(trials) - ln_factorial(hits) - ln_factorial(trials - hits);
    let misses = if hits == trials { 0.0 } else { (n - k) * (-probability).ln_1p() };
    let first = choices + k * probability.ln() + misses;
    // Above the expectation each term is smaller than the one before it; by a third, where one share is half as much again as the other.
    let (mut term, mut sum, mut at) = (1.0, 1.0, k);
    while at < n && term > sum * f64::EPSILON / 2.0 {
        term *= (n - at) / (at + 1.0) * probability / (1.0 - probability);
        at += 1.0;
        sum += term;
    }
    (first.exp() * sum).min(1.0)
}

/// Stirling's series; its first term that is left out is below 1e-12 there.
fn ln_factorial(number: u64) -> f64 {
    if number < 20 {
        return (2..=number).map(|factor| factor as f64).product::<f64>().ln();
    }
    let n = number as f64;
    let rest = (1.0 / 12.0 - (1.0 / 360.0 - 1.0 / (1260.0 * n * n)) / (n * n)) / n;
    n * n.ln() - n + (TAU * n).ln() / 2.0 + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_near(found: f64, expected: f64) {
        assert!((found / expected - 1.0).abs() < 1e-9, "{found:e}, not {expected:e}");
    }

    #[test]
    fn tails_are_exact() {
        assert_near(tail(1, 1, 0.25), 0.25);
        assert_near(tail(8, 10, 0.5), 56.0 / 1024.0);
        assert_near(tail(10, 10, 0.5), 1.0 / 1024.0);
        assert_near(tail(3, 4, 0.1), 4.0 * 0.9 * 1e-3 + 1e-4);
        assert_eq!(tail(0, 0, 0.3), 1.0);
        assert_eq!(tail(5, 10, 0.5), 1.0, "not asked for");
    }

    /// The values were computed with fractions of whole numbers, without rounding.
    #[test]
    fn tails_of_many_are_exact() {
        for (hits, trials, numerator, denominator, expected) in KNOWN {
            assert_near(tail(hits, trials, numerator as f64 / denominator as f64), expected);
        }
    }

    const KNOWN: [(u64, u64, u64, u64, f64); 5] = [
        (30, 100, 1, 6, 6.765996746781385e-4),
        (6, 40, 600, 36_600, 4.616075331793227e-5),
        (60, 1000, 1, 30, 1.4088700234515013e-5),
        (700, 5000, 1, 10, 2.0638051163871667e-19),
        (2000, 3000, 1, 2, 5.0450743139706706e-76),
    ];
}
