//! When a certificate is replaced. Pure: the time comes from outside.

use time::OffsetDateTime;

/// Two thirds into its life: a third is left for all that may go wrong.
pub fn renew_at(not_before: OffsetDateTime, not_after: OffsetDateTime) -> OffsetDateTime {
    not_before + (not_after - not_before) * 2 / 3
}

/// Whether it is to be replaced at `now`. One that is not valid yet (the clock was set back) is
/// due as well: clients would refuse it.
pub fn is_due(not_before: OffsetDateTime, not_after: OffsetDateTime, now: OffsetDateTime) -> bool {
    now < not_before || now >= renew_at(not_before, not_after)
}

#[cfg(test)]
mod tests {
    use time::Duration;

    use super::*;

    #[test]
    fn due_from_two_thirds_on_and_before_its_time() {
        let start = OffsetDateTime::UNIX_EPOCH + Duration::days(20_000);
        let end = start + Duration::days(90);
        assert_eq!(renew_at(start, end), start + Duration::days(60));
        let due = |after: Duration| is_due(start, end, start + after);
        assert!(due(-Duration::SECOND));
        assert!(!due(Duration::ZERO));
        assert!(!due(Duration::days(60) - Duration::SECOND));
        assert!(due(Duration::days(60)));
        assert!(due(Duration::days(90)));
        assert!(due(Duration::days(9_000)));
        // Nonsense is replaced, not served.
        assert!(is_due(end, start, start));
    }
}
