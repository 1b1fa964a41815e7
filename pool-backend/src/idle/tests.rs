use proptest::prelude::*;

use super::*;

const FREEZE: Duration = Duration::from_secs(60);

fn settings() -> impl Strategy<Value = LifecycleSettings> {
    let action = prop_oneof![
        Just(IdleAction::Shutdown),
        Just(IdleAction::Hibernate),
        Just(IdleAction::KeepAlive),
    ];
    (1u32..100, prop::option::of(1u32..10), action, any::<bool>()).prop_map(
        |(idle_timeout_minutes, max_duration_hours, idle_action, keep_alive)| LifecycleSettings {
            idle_timeout_minutes,
            max_duration_hours,
            idle_action,
            keep_alive,
            ..LifecycleSettings::default()
        },
    )
}

fn facts() -> impl Strategy<Value = Facts> {
    let seconds = |most: u64| (0..most).prop_map(Duration::from_secs);
    let often_none = |most: u64| prop_oneof![Just(Duration::ZERO), seconds(most)];
    (
        any::<bool>(),
        seconds(7000),
        seconds(40_000),
        prop_oneof![3 => Just(0u32), 1 => 1u32..3],
        prop_oneof![3 => Just(0u32), 1 => 1u32..3],
        any::<bool>(),
        often_none(3000),
        often_none(600),
        often_none(100),
        seconds(7000),
    )
        .prop_map(
            |(
                frozen,
                idle,
                up,
                in_flight,
                attached,
                busy,
                extension_left,
                heartbeat_left,
                overdue_for,
                silent,
            )| Facts {
                frozen,
                idle,
                up,
                in_flight,
                attached,
                busy,
                extension_left,
                heartbeat_left,
                overdue_for,
                silent,
                outside: None,
            },
        )
}

proptest! {
    #[test]
    fn nobody_inside_is_put_to_sleep(settings in settings(), mut facts in facts()) {
        facts.in_flight = 1;
        facts.overdue_for = Duration::ZERO;
        prop_assert_eq!(decide(&settings, FREEZE, &facts), Decision::Nothing);
    }

    #[test]
    fn whose_time_is_up_ends_whoever_uses_it(settings in settings(), mut facts in facts()) {
        prop_assume!(longest(&settings).is_some());
        facts.up = longest(&settings).unwrap_or_default();
        facts.overdue_for = timing::OVERDUE;
        prop_assert_eq!(decide(&settings, FREEZE, &facts), Decision::Stop);
    }

    #[test]
    fn visits_do_not_count_where_their_owner_says_so(settings in settings(), facts in facts()) {
        let settings = LifecycleSettings { keep_alive_on_preview: false, ..settings };
        let alone = Facts { attached: 0, ..facts };
        prop_assert_eq!(decide(&settings, FREEZE, &facts), decide(&settings, FREEZE, &alone));
        prop_assert_eq!(time_left(&settings, &facts), time_left(&settings, &alone));
    }

    #[test]
    fn who_is_kept_alive_ends_only_of_age(settings in settings(), facts in facts()) {
        let settings = LifecycleSettings { keep_alive: true, ..settings };
        let decision = decide(&settings, FREEZE, &facts);
        prop_assert!(decision == Decision::Nothing || is_overdue(&settings, &facts));
        let unlimited = LifecycleSettings { max_duration_hours: None, ..settings };
        prop_assert_eq!(decide(&unlimited, FREEZE, &facts), Decision::Nothing);
        prop_assert_eq!(time_left(&unlimited, &facts), None);
    }

    #[test]
    fn nothing_happens_before_its_time(settings in settings(), mut facts in facts()) {
        facts.idle = facts.idle.min(FREEZE - Duration::from_secs(1));
        facts.up = Duration::ZERO;
        prop_assert_eq!(decide(&settings, FREEZE, &facts), Decision::Nothing);
    }

    #[test]
    fn more_idleness_never_means_more_wakefulness(settings in settings(), facts in facts()) {
        let rank = |decision| match decision {
            Decision::Nothing => 0,
            Decision::Freeze => 1,
            Decision::Hibernate | Decision::Stop => 2,
        };
        let later = Facts { idle: facts.idle + FREEZE, ..facts };
        let (now, then) = (decide(&settings, FREEZE, &facts), decide(&settings, FREEZE, &later));
        prop_assert!(rank(now) <= rank(then), "{now:?}, then {then:?}");
    }

    #[test]
    fn the_time_told_is_the_time_it_happens(settings in settings(), mut facts in facts()) {
        (facts.in_flight, facts.attached) = (0, 0);
        let Some(left) = time_left(&settings, &facts) else {
            let decision = decide(&settings, FREEZE, &facts);
            prop_assert!(matches!(decision, Decision::Nothing));
            return Ok(());
        };
        let after = |passed: Duration| Facts {
            idle: facts.idle + passed,
            up: facts.up + passed,
            extension_left: facts.extension_left.saturating_sub(passed),
            ..facts
        };
        let due = decide(&settings, FREEZE, &after(left));
        prop_assert!(matches!(due, Decision::Hibernate | Decision::Stop), "{due:?}");
        if let Some(earlier) = left.checked_sub(Duration::from_secs(1)) {
            let early = decide(&settings, FREEZE, &after(earlier));
            prop_assert!(matches!(early, Decision::Nothing | Decision::Freeze), "{early:?}");
        }
    }

    #[test]
    fn no_connection_is_broken_unasked(
        settings in settings(),
        facts in facts(),
        outside in prop::option::of(0u32..3),
    ) {
        let facts = Facts { outside, ..facts };
        let decision = decide(&settings, FREEZE, &facts);
        let softened = without_breaking(decision, &facts);
        if softened == Decision::Hibernate {
            prop_assert!(facts.frozen);
            let due = !facts.overdue_for.is_zero();
            prop_assert!(due || outside.unwrap_or_default() == 0);
        } else if decision != Decision::Hibernate {
            prop_assert_eq!(softened, decision);
        }
        // Once it is frozen, and nothing is open, it comes to the same.
        let frozen = Facts { frozen: true, outside: Some(0), ..facts };
        prop_assert_eq!(without_breaking(decision, &frozen), decision);
    }

    #[test]
    fn only_what_runs_quietly_is_frozen(settings in settings(), facts in facts()) {
        if decide(&settings, FREEZE, &facts) == Decision::Freeze {
            prop_assert!(!facts.frozen && !facts.busy && facts.attached == 0);
            prop_assert!(facts.heartbeat_left.is_zero());
            prop_assert!(facts.idle.min(facts.silent) >= FREEZE);
        }
    }
}
