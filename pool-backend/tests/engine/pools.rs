//! Pools size themselves, and nobody waits for their refills.

use futures_util::future::join_all;
use pool_backend::config::MemoryShare;

use crate::rig::{Pools, Rig, eventually, output};

#[tokio::test(flavor = "multi_thread")]
async fn claims_wait_for_no_refill() {
    let mut rig = Rig::with_pools(Pools::of(&[("default", "100"), ("static", "0")])).await;
    let owner = rig.owner.clone();
    // Cold ones of another template, and whatever is there of this one.
    for n in 0..6 {
        let (cold, warm) = (format!("cold{n}"), format!("warm{n}"));
        let (cold, warm) = tokio::join!(
            rig.try_create(&owner, &cold, "static"),
            rig.try_create(&owner, &warm, "default"),
        );
        assert_eq!(output(&cold.unwrap(), "echo here").await, "here\n");
        assert_eq!(output(&warm.unwrap(), "echo here").await, "here\n");
    }
    let pool = rig.pool("default");
    assert!(
        pool.ready < pool.target,
        "they waited until all was full: {pool:?}"
    );
    // Nor does an end wait for refills that nobody needs any more.
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    let here = rig.workspaces().list(&rig.owner, None, 1, 50);
    assert_eq!(here.total, 12);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_grows_with_demand_and_stays_so_over_a_kill() {
    let mut rig = Rig::with_pools(Pools::of(&[("default", "1..10")])).await;
    rig.warm("default").await;
    assert_eq!(rig.pool("default").target, 1);
    let names: Vec<String> = (0..6).map(|n| format!("burst{n}")).collect();
    join_all(names.iter().map(|name| rig.create(name))).await;
    let grown = rig.pool("default");
    assert!((5..=10).contains(&grown.target), "{grown:?}");
    assert_eq!(grown.hits + grown.misses, 6);
    rig.warm("default").await;
    // The same again finds one each.
    let names: Vec<String> = (0..5).map(|n| format!("again{n}")).collect();
    join_all(names.iter().map(|name| rig.create(name))).await;
    let pool = rig.pool("default");
    assert_eq!(pool.misses, grown.misses, "{pool:?}");
    assert!(pool.claim_p95.is_some());
    rig.warm("default").await;
    let before = rig.pool("default");

    rig.kill_and_start().await;
    let after = rig.pool("default");
    assert_eq!((after.ready, after.target), (before.ready, before.ready));
    let made = rig.create("after").await;
    assert_eq!(output(&made, "echo here").await, "here\n");
    assert_eq!(rig.pool("default").hits, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_bounds_all_pools_together() {
    // For runc: a handful; for runsc: one.
    let share = MemoryShare::Bytes(if crate::rig::is_runsc() {
        40 << 20
    } else {
        14 << 20
    });
    let pools = Pools::of(&[("default", "30"), ("static", "2..30")]).within(share);
    let rig = Rig::with_pools(pools).await;
    let room = rig.workspaces().pool_room();
    assert!((1..10).contains(&room.containers), "{room:?}");
    let all = || {
        let pools = rig.workspaces().pools();
        let sum = |of: fn(&pool_backend::workspaces::PoolStatus) -> u32| {
            pools.iter().map(of).sum::<u32>()
        };
        (
            sum(|pool| pool.ready),
            sum(|pool| pool.target),
            sum(|pool| pool.refilling),
        )
    };
    eventually("they are as full as may be", || {
        let (ready, target, refilling) = all();
        ready == target && refilling == 0 && ready > 0
    })
    .await;
    assert!(rig.pool("default").short_of_room);
    let room = rig.workspaces().pool_room();
    let (ready, target, _) = all();
    assert!(
        ready <= room.containers && target <= room.containers,
        "{ready} {room:?}"
    );
    // An empty pool is no reason to refuse.
    let names: Vec<String> = (0..10).map(|n| format!("w{n}")).collect();
    join_all(names.iter().map(|name| rig.create(name))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_that_does_not_start_is_left_in_peace_and_comes_back() {
    let rig = Rig::new(&[("default", 2)]).await;
    rig.warm("default").await;
    assert_eq!(rig.pool("default").broken, None);
    let (init, aside) = (rig.data().join("init"), rig.data().join("aside"));
    std::fs::rename(&init, &aside).unwrap();
    let workspace = rig.create("demo").await;
    eventually("the breaker opens", || {
        let broken = rig.pool("default").broken;
        broken.is_some_and(|broken| broken.failures >= 3 && !broken.retry_in.is_zero())
    })
    .await;
    let broken = rig.pool("default").broken.unwrap();
    assert_eq!(broken.reason, "the container could not be started");
    // It tries less and less often: 3 failures took 0.25 + 0.5 s at least, one more takes 1 s.
    assert!(broken.failures < 8, "{broken:?}");
    assert_eq!(output(&workspace, "echo unharmed").await, "unharmed\n");
    std::fs::rename(&aside, &init).unwrap();
    rig.warm("default").await;
    assert_eq!(rig.pool("default").broken, None);
}
