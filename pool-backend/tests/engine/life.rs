//! Workspaces come, go, and outlive their containers and their node.

use std::collections::BTreeSet;
use std::time::Instant;

use fleet::id::OwnerId;
use fleet::lifecycle::State;
use futures_util::future::join_all;
use pool_backend::ErrorKind;

use crate::rig::{Rig, eventually, kill_container, output, read, run, shell, write};

#[tokio::test(flavor = "multi_thread")]
async fn create_run_read() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    let summary = workspace.summary();
    assert_eq!(summary.state, State::Running);
    assert_eq!(summary.project.as_str(), "demo");

    let job = run(&workspace, "echo hello; echo oops >&2; exit 3").await;
    assert_eq!(
        (job.stdout.as_str(), job.stderr.as_str()),
        ("hello\n", "oops\n")
    );
    assert_eq!(job.exit_code, Some(3));
    run(&workspace, "mkdir -p out && echo 42 > out/answer").await;
    assert_eq!(read(&workspace, "out/answer").await.unwrap(), b"42\n");
    assert_eq!(output(&workspace, "pwd").await, "/workspace\n");

    // An empty pool is a cold start, and counts as a miss.
    let pools = rig.workspaces().pools();
    let pool = pools
        .iter()
        .find(|pool| pool.template.as_str() == "default")
        .unwrap();
    assert_eq!((pool.hits, pool.misses), (0, 1));
    assert_eq!(rig.route(&workspace).await.unwrap().state, State::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_warm_container_is_handed_out_and_replaced() {
    let rig = Rig::new(&[("default", 2)]).await;
    rig.warm("default").await;
    let began = Instant::now();
    let workspace = rig.create("demo").await;
    println!("warm create: {:?}", began.elapsed());
    assert_eq!(output(&workspace, "echo warm").await, "warm\n");
    assert_eq!(workspace.summary().generation.0, 1);
    rig.warm("default").await;
    let pools = rig.workspaces().pools();
    let pool = pools
        .iter()
        .find(|pool| pool.template.as_str() == "default")
        .unwrap();
    assert_eq!((pool.hits, pool.misses, pool.ready), (1, 0, 2));
    // The same again is the same workspace, not another container.
    let again = rig.create("demo").await;
    assert_eq!(again.summary().container, workspace.summary().container);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_creates_of_one_name_make_one_workspace() {
    let rig = Rig::new(&[("default", 1)]).await;
    let creates = (0..20).map(|_| rig.create("demo"));
    let made = join_all(creates).await;
    let ids: BTreeSet<_> = made.iter().map(|one| one.summary().id).collect();
    assert_eq!(ids.len(), 1);
    let page = rig.workspaces().list(&rig.owner, None, 1, 50);
    assert_eq!((page.total, page.items.len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_create_leaves_a_whole_workspace() {
    let rig = Rig::new(&[]).await;
    let creating = rig.create("demo");
    let dropped = tokio::time::timeout(std::time::Duration::from_millis(5), creating).await;
    drop(dropped);
    let workspace = rig.create("demo").await;
    assert_eq!(output(&workspace, "echo there").await, "there\n");
    assert_eq!(rig.workspaces().list(&rig.owner, None, 1, 10).total, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_have_names_of_their_own() {
    let rig = Rig::new(&[]).await;
    let stranger = OwnerId::mint();
    let (mine, theirs) = tokio::join!(
        rig.create("demo"),
        rig.try_create(&stranger, "demo", "default"),
    );
    let theirs = theirs.unwrap();
    let (mine_now, theirs_now) = (mine.summary(), theirs.summary());
    assert_ne!(mine_now.id, theirs_now.id);
    assert_ne!(mine_now.number, theirs_now.number);
    write(&mine, "secret", "mine").await;
    assert_eq!(
        read(&theirs, "secret").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    let workspaces = rig.workspaces();
    let by_number = workspaces
        .by_number(&stranger, mine_now.number)
        .err()
        .unwrap();
    let by_container = workspaces
        .by_container(&stranger, &mine_now.container)
        .err()
        .unwrap();
    assert_eq!(
        (by_number.kind, by_container.kind),
        (ErrorKind::NotFound, ErrorKind::NotFound)
    );
    assert!(workspaces.by_number(&rig.owner, mine_now.number).is_ok());
    // Neither sees the other's processes or network.
    let port = output(&mine, "ls /workspace").await;
    assert_eq!(port.lines().filter(|line| *line == "secret").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_template_is_refused() {
    let rig = Rig::new(&[]).await;
    let error = rig
        .try_create(&rig.owner, "demo", "cobol")
        .await
        .err()
        .unwrap();
    assert_eq!(error.kind, ErrorKind::Invalid);
    assert!(error.message.contains("python"), "{}", error.message);
    assert_eq!(rig.workspaces().list(&rig.owner, None, 1, 10).total, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_keeps_files_and_ids() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "kept", "yes").await;
    run(&workspace, "echo gone > /tmp/gone").await;
    let before = workspace.summary();
    let after = workspace.restart().await.unwrap();
    assert_eq!(
        (before.container, before.slug),
        (after.container, after.slug)
    );
    assert_eq!(after.generation, before.generation.next());
    assert_eq!(output(&workspace, "cat kept; ls /tmp").await, "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_container_is_started_again_around_its_volume() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "kept", "yes").await;
    let before = workspace.summary().generation;
    kill_container(&workspace).await;
    assert_eq!(output(&workspace, "cat kept").await, "yes");
    assert_eq!(workspace.summary().generation, before.next());
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_is_gone() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "file", "content").await;
    let volume = rig.volume(&workspace);
    let route = rig.route(&workspace).await;
    assert!(volume.exists() && route.is_some());
    let project = "demo".parse().unwrap();
    rig.workspaces().delete(&rig.owner, &project).await.unwrap();
    assert!(rig.workspaces().get(&rig.owner, &project).is_err());
    assert!(rig.route(&workspace).await.is_none());
    assert_eq!(
        workspace.execute(shell("true")).await.unwrap_err().kind,
        ErrorKind::NotFound
    );
    eventually("the volume is gone", || !volume.exists()).await;
    // What all containers share stays: the table and the instance's own cgroup. The sandbox that is
    // asked for languages after a start goes by itself.
    let shared = |line: &String| line.starts_with("nft") || line.ends_with(rig.instance.as_str());
    eventually("nothing is left", || rig.leftovers().iter().all(shared)).await;
    let again = rig
        .workspaces()
        .delete(&rig.owner, &project)
        .await
        .unwrap_err();
    assert_eq!(again.kind, ErrorKind::NotFound);
    // The name is free, and another workspace has nothing of the first.
    let next = rig.create("demo").await;
    assert_ne!(next.summary().slug, workspace.summary().slug);
    assert_eq!(
        read(&next, "file").await.unwrap_err().kind,
        ErrorKind::NotFound
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_s_containers_are_adopted_as_they_are() {
    let mut rig = Rig::new(&[("default", 1)]).await;
    let workspace = rig.create("demo").await;
    let job = workspace
        .start_job(shell("echo $$ > pid; exec sleep 1000"))
        .await
        .unwrap();
    eventually("the job runs", || {
        rig.volume(&workspace).join("data/pid").exists()
    })
    .await;
    let number = workspace.summary().number;
    let before = workspace.summary();
    rig.warm("default").await;
    drop(workspace);

    rig.kill_and_start().await;
    let workspace = rig.get("demo");
    assert_eq!(workspace.summary().state, State::Running);
    assert_eq!(workspace.summary().generation, before.generation);
    assert_eq!(workspace.summary().started_at, before.started_at);
    output(&workspace, "kill -0 $(cat pid)").await;
    let found = workspace.job(&job.id).await.unwrap();
    assert_eq!(found.status, init_protocol::JobStatus::Running);
    // The warm one came back too: the next create is a hit.
    rig.warm("default").await;
    let other = rig.create("other").await;
    assert_eq!(other.summary().number, number + 1);
    let pools = rig.workspaces().pools();
    assert_eq!(pools.iter().map(|pool| pool.misses).sum::<u64>(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_with_the_node_is_stopped_and_starts_again() {
    let mut rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "kept", "yes").await;
    let before = workspace.summary().generation;
    kill_container(&workspace).await;
    drop(workspace);
    rig.kill_and_start().await;
    let workspace = rig.get("demo");
    assert_eq!(workspace.summary().state, State::Stopped);
    // Files of a sleeping workspace are read without waking it.
    assert_eq!(read(&workspace, "kept").await.unwrap(), b"yes");
    assert_eq!(workspace.summary().state, State::Stopped);
    assert_eq!(output(&workspace, "cat kept").await, "yes");
    assert_eq!(workspace.summary().generation, before.next());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_end_leaves_nothing_but_the_data_dir() {
    let mut rig = Rig::new(&[("default", 2)]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "kept", "yes").await;
    rig.warm("default").await;
    drop(workspace);
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    rig.start().await;
    let workspace = rig.get("demo");
    assert_eq!(workspace.summary().state, State::Stopped);
    assert_eq!(output(&workspace, "cat kept").await, "yes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_pages_and_a_filter() {
    let rig = Rig::new(&[]).await;
    for project in ["a", "b", "c"] {
        rig.create(project).await;
    }
    rig.get("b").stop().await.unwrap();
    let names = |status, page, size| -> Vec<String> {
        let page = rig.workspaces().list(&rig.owner, status, page, size);
        page.items
            .iter()
            .map(|one| one.project.to_string())
            .collect()
    };
    assert_eq!(names(None, 1, 2), ["a", "b"]);
    assert_eq!(names(None, 2, 2), ["c"]);
    assert!(names(None, 9, 2).is_empty() && names(None, usize::MAX, usize::MAX).is_empty());
    let ready = fleet::lifecycle::ApiStatus::Ready;
    assert_eq!(names(Some(ready), 1, 10), ["a", "c"]);
    // A list starts nothing.
    assert_eq!(rig.get("b").summary().state, State::Stopped);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_record_names_is_removed() {
    let mut rig = Rig::new(&[("default", 1)]).await;
    let (forgotten, behind, deleted) = tokio::join!(
        rig.create("forgotten"),
        rig.create("behind"),
        rig.create("deleted")
    );
    rig.warm("default").await;
    let record = |workspace| rig.volume(workspace).join("workspace.json");
    let edit = |workspace, from: &str, to: &str| {
        let text = std::fs::read_to_string(record(workspace)).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(record(workspace), text.replace(from, to)).unwrap();
    };
    // As if the process had died between the steps of a start, a deletion, a warm-up.
    edit(&behind, "\"state\": \"running\"", "\"state\": \"starting\"");
    edit(&behind, "\"generation\": 1", "\"generation\": 2");
    edit(&deleted, "\"deleted\": false", "\"deleted\": true");
    std::fs::remove_file(record(&forgotten)).unwrap();
    let gone = [rig.volume(&forgotten), rig.volume(&deleted)];
    drop((forgotten, behind, deleted));

    rig.kill_and_start().await;
    let behind = rig.get("behind");
    assert_eq!(
        (behind.summary().state, behind.summary().generation.0),
        (State::Stopped, 2)
    );
    assert_eq!(rig.workspaces().list(&rig.owner, None, 1, 10).total, 1);
    eventually("nothing of the others is left", || {
        gone.iter().all(|volume| !volume.exists())
    })
    .await;
    rig.warm("default").await;
    // One warm container runs, and nothing else.
    eventually("one network is left", || {
        rig.leftovers()
            .iter()
            .filter(|line| line.starts_with("link"))
            .count()
            == 1
    })
    .await;
    assert_eq!(output(&behind, "echo up").await, "up\n");
    assert_eq!(behind.summary().generation.0, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_on_a_small_pool_is_served() {
    let rig = Rig::new(&[("default", 3)]).await;
    rig.warm("default").await;
    let names: Vec<String> = (0..12).map(|n| format!("burst{n}")).collect();
    let made = join_all(names.iter().map(|name| rig.create(name))).await;
    let slugs: BTreeSet<_> = made.iter().map(|one| one.summary().slug).collect();
    let numbers: BTreeSet<_> = made.iter().map(|one| one.summary().number).collect();
    assert_eq!((slugs.len(), numbers.len()), (12, 12));
    let said = join_all(made.iter().map(|one| output(one, "echo here"))).await;
    assert!(said.iter().all(|text| text == "here\n"));
    rig.warm("default").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_fails_says_why_and_is_tried_again_later() {
    let rig = Rig::new(&[]).await;
    let workspace = rig.create("demo").await;
    write(&workspace, "kept", "yes").await;
    workspace.stop().await.unwrap();
    let data = rig.volume(&workspace).join("data");
    let aside = rig.volume(&workspace).join("aside");
    std::fs::rename(&data, &aside).unwrap();
    let error = workspace.execute(shell("true")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::NotReady, "{error}");
    assert_eq!(workspace.summary().state, State::Failed);
    assert_eq!(workspace.problem(), Some(error.message));
    assert_eq!(rig.route(&workspace).await.unwrap().state, State::Failed);
    std::fs::rename(&aside, &data).unwrap();
    let began = Instant::now();
    loop {
        match workspace.execute(shell("cat kept")).await {
            Ok(job) => break assert_eq!(job.stdout, "yes"),
            Err(error) => assert_eq!(error.kind, ErrorKind::NotReady),
        }
        assert!(began.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_eq!(workspace.problem(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_amid_creates_leaves_nothing_running() {
    let mut rig = Rig::new(&[("default", 2)]).await;
    let (workspaces, owner) = (rig.workspaces(), rig.owner.clone());
    let creating = tokio::spawn(async move {
        let names: Vec<String> = (0..10).map(|n| format!("p{n}")).collect();
        let creates = names.iter().map(|name| {
            let (project, template) = (name.parse().unwrap(), "default".parse().unwrap());
            let (workspaces, owner) = (&workspaces, &owner);
            async move { workspaces.create(owner, &project, &template).await.is_ok() }
        });
        join_all(creates).await
    });
    eventually("some are made", || {
        rig.workspaces().list(&rig.owner, None, 1, 1).total > 2
    })
    .await;
    rig.shut_down().await;
    assert_eq!(rig.leftovers(), Vec::<String>::new());
    creating.abort();
    let _ = creating.await;
    rig.start().await;
    let page = rig.workspaces().list(&rig.owner, None, 1, 20);
    assert!(
        page.items.iter().all(|one| one.state == State::Stopped),
        "{:?}",
        page.items
    );
}
