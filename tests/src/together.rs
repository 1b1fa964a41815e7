//! Many of a thing, made a few at a time.
//!
//! Must never happen here: one that fails and goes unheard.

use anyhow::{Result, anyhow};

/// As many as are asked for, by so many threads; the first failure if there is one.
pub fn made<T: Send>(
    count: usize,
    makers: usize,
    make: impl Fn() -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let make = &make;
    let made: Result<Vec<Vec<T>>> = std::thread::scope(|scope| {
        let makers: Vec<_> = (0..makers)
            .map(|maker| {
                scope.spawn(move || {
                    (maker..count)
                        .step_by(makers)
                        .map(|_| make())
                        .collect::<Result<Vec<T>>>()
                })
            })
            .collect();
        makers
            .into_iter()
            .map(|maker| {
                maker
                    .join()
                    .unwrap_or_else(|_| Err(anyhow!("a maker died")))
            })
            .collect()
    });
    Ok(made?.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_made_or_the_failure_is_told() {
        assert_eq!(made(7, 3, || Ok(1)).unwrap(), [1; 7]);
        assert!(made::<()>(2, 3, || Err(anyhow!("no"))).is_err());
    }
}
