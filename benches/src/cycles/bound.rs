//! What a number of failures says about the rate at which they happen.

/// Of 100 such runs, this many bound the true rate.
pub const CONFIDENCE: f64 = 0.95;
/// Halvings: more than a double's digits.
const STEPS: u32 = 60;

/// The highest rate of failures that is still plausible (Clopper-Pearson, one-sided): with it so
/// few are seen in one of twenty runs. Without failures it is about 3/n.
pub fn highest_rate(failures: u32, cycles: u32) -> f64 {
    if cycles == 0 || failures >= cycles {
        return 1.0;
    }
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        if at_most(failures, cycles, middle) > 1.0 - CONFIDENCE {
            low = middle;
        } else {
            high = middle;
        }
    }
    high
}

/// The chance of no more than `failures` in `cycles`.
fn at_most(failures: u32, cycles: u32, rate: f64) -> f64 {
    let n = f64::from(cycles);
    // Term by term in logarithms: the factors alone do not fit into a double.
    let mut log_term = n * (-rate).ln_1p();
    let mut sum = log_term.exp();
    for k in 0..failures {
        let k = f64::from(k);
        log_term += ((n - k) / (k + 1.0)).ln() + rate.ln() - (-rate).ln_1p();
        sum += log_term.exp();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64) {
        assert!(
            (found - expected).abs() < expected * 0.01,
            "{found} {expected}"
        );
    }

    #[test]
    fn the_rule_of_three() {
        close(highest_rate(0, 3000), 2.9957 / 3000.0);
        close(highest_rate(0, 10), 0.2589);
    }

    #[test]
    fn as_in_tables() {
        close(highest_rate(1, 100), 0.0466);
        close(highest_rate(5, 100), 0.1023);
        close(highest_rate(3, 3000), 7.754 / 3000.0);
    }

    #[test]
    fn without_cycles_nothing_is_known() {
        close(highest_rate(0, 0), 1.0);
        close(highest_rate(7, 7), 1.0);
        assert!(highest_rate(2, 50) > highest_rate(1, 50));
    }
}
