//! The account: how many, when, and whose.

use proptest::prelude::*;

use super::*;

const QUICK: Duration = Duration::from_millis(50);

fn fixed<T>(size: u32, now: Instant) -> Pool<T> {
    Pool::new(PoolSize::fixed(size), now)
}

#[test]
fn fills_up_and_rests() {
    let now = Instant::now();
    let mut pool = fixed(5, now);
    let first = pool.plan(now, 2);
    assert_eq!((first.start, first.again), (2, None));
    assert_eq!(pool.plan(now, 2).start, 0);
    pool.refilled(1, QUICK);
    pool.refilled(2, QUICK);
    assert_eq!(pool.plan(now, 10).start, 3);
    for n in 3..6 {
        pool.refilled(n, QUICK);
    }
    let rest = Plan {
        start: 0,
        again: None,
    };
    assert_eq!(pool.plan(now, 10), rest);
    assert_eq!(pool.adopt(9, now), Some(9));
    assert_eq!(pool.claim(), Some(5));
    assert_eq!(pool.claim(), Some(4));
    assert_eq!(pool.plan(now, 10).start, 2);
}

#[test]
fn counts_hits_and_misses() {
    let now = Instant::now();
    let mut pool = fixed(1, now);
    assert_eq!(pool.claim(), None);
    pool.came(false, now);
    assert_eq!(pool.adopt('a', now), None);
    assert_eq!(pool.claim(), Some('a'));
    pool.came(true, now);
    let standing = pool.standing(now);
    assert_eq!((standing.hits, standing.misses), (1, 1));
}

#[test]
fn grows_with_a_burst_and_gives_back_the_oldest() {
    let start = Instant::now();
    let mut pool = Pool::new("2..50".parse().unwrap(), start);
    assert_eq!(pool.plan(start, 100).start, 2);
    for _ in 0..20 {
        pool.came(false, start);
    }
    // A quarter more than came at once.
    assert_eq!(pool.standing(start).target, 25);
    assert_eq!(pool.plan(start, 100).start, 23);
    (0..25).for_each(|n| pool.refilled(n, QUICK));
    assert_eq!(pool.surplus(), None);
    // Nobody comes any more.
    let later = start + Duration::from_secs(12 * 3600);
    assert!(pool.allow(50, later));
    let given_back: Vec<_> = std::iter::from_fn(|| pool.surplus()).collect();
    assert_eq!(given_back, (0..23).collect::<Vec<_>>());
    assert_eq!(pool.ready(), [23, 24]);
}

#[test]
fn without_room_it_shrinks_below_its_minimum() {
    let now = Instant::now();
    let mut pool = fixed(10, now);
    assert_eq!(pool.plan(now, 100).start, 10);
    (0..10).for_each(|n| pool.refilled(n, QUICK));
    assert!(pool.allow(3, now));
    assert_eq!(std::iter::from_fn(|| pool.surplus()).count(), 7);
    assert!(pool.standing(now).short_of_room);
    assert_eq!(pool.plan(now, 100).start, 0);
    assert!(pool.allow(10, now) && !pool.allow(10, now));
    assert_eq!(pool.plan(now, 100).start, 7);
}

#[test]
fn what_a_process_before_had_grown_is_kept() {
    let now = Instant::now();
    let mut pool = Pool::new("2..50".parse().unwrap(), now);
    assert!((0..40).all(|n| pool.adopt(n, now).is_none()));
    assert_eq!(pool.surplus(), None);
    assert_eq!(pool.standing(now).target, 40);
}

#[test]
fn failures_back_off_then_one_is_tried_alone() {
    let mut now = Instant::now();
    let mut pool: Pool<()> = fixed(8, now);
    assert_eq!(pool.plan(now, 4).start, 4);
    for _ in 0..4 {
        pool.failed("no space", now);
    }
    let plan = pool.plan(now, 4);
    assert_eq!((plan.start, plan.again), (0, Some(timing::START_BACKOFF)));
    let broken = pool.standing(now).broken.unwrap();
    assert_eq!((broken.failures, broken.reason.as_str()), (1, "no space"));
    assert_eq!(broken.retry_in, timing::START_BACKOFF);
    now += timing::START_BACKOFF;
    assert_eq!(pool.plan(now, 4).start, 1);
    assert_eq!(pool.plan(now, 4).start, 0);
    pool.failed("still none", now);
    assert_eq!(pool.plan(now, 4).again, Some(timing::START_BACKOFF * 2));
    assert_eq!(pool.standing(now).broken.unwrap().reason, "still none");
    now += timing::START_BACKOFF * 2;
    assert_eq!(pool.plan(now, 4).start, 1);
    pool.refilled((), QUICK);
    assert_eq!(pool.standing(now).broken, None);
    assert_eq!(pool.plan(now, 4).start, 4);
}

#[test]
fn of_the_claims_lately_the_slow_ones_are_told() {
    let now = Instant::now();
    let mut pool: Pool<()> = fixed(1, now);
    assert_eq!(pool.standing(now).claim_p95, None);
    for millis in 1..=1000 {
        pool.took(Duration::from_millis(millis));
    }
    // Of 489 to 1000.
    let p95 = pool.standing(now).claim_p95.unwrap();
    assert_eq!(p95, Duration::from_millis(975));
}

proptest! {
    /// Whatever happens in whatever order: never below the least that there is room for, never
    /// above the most, never more at once than allowed, and a pool left alone fills up.
    #[test]
    fn never_too_many_and_always_full_in_the_end(
        min in 0_u32..60,
        more in 0_u32..140,
        steps in prop::collection::vec((0_u8..6, 0_u32..250), 0..300),
    ) {
        let mut now = Instant::now();
        let size = PoolSize::between(min, min + more).unwrap();
        let mut pool = Pool::new(size, now);
        let (mut underway, mut allowed) = (0_u32, size.max);
        for (step, number) in steps {
            match step {
                0 => { let hit = pool.claim().is_some(); pool.came(hit, now); }
                1 => underway += pool.plan(now, 3).start,
                2 if underway > 0 => { underway -= 1; pool.refilled((), QUICK); }
                3 if underway > 0 => { underway -= 1; pool.failed("no", now); }
                4 => {
                    allowed = number;
                    pool.allow(allowed, now);
                    while pool.surplus().is_some() {}
                }
                _ => now += Duration::from_millis(u64::from(number) * 7),
            }
            let target = pool.standing(now).target;
            prop_assert!(underway <= 3);
            prop_assert!(target <= size.max.min(allowed));
            prop_assert!(target >= size.min.min(allowed));
            prop_assert!(pool.ready().len() as u32 <= size.max);
        }
        for _ in 0..10_000 {
            pool.allow(allowed, now);
            while pool.surplus().is_some() {}
            let plan = pool.plan(now, 3);
            underway += plan.start;
            if underway > 0 { underway -= 1; pool.refilled((), QUICK); }
            else if let Some(again) = plan.again { now += again; }
            else { break }
        }
        prop_assert_eq!(pool.ready().len() as u32, pool.standing(now).target);
    }
}
