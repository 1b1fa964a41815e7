//! One suite over both runtimes: real containers, real networks, real limits. Needs root.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a test"
)]

mod rig;

use pool_backend::config::RuntimeChoice;
use rig::Rig;

/// Each case runs once per runtime.
macro_rules! cases {
    ($($name:ident),* $(,)?) => {
        mod runc {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Rig::new(super::RuntimeChoice::Runc).await).await; })*
        }
        mod runsc {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::$name(super::Rig::new(super::RuntimeChoice::Runsc).await).await; })*
        }
    };
}

cases!(a_script_runs);

async fn a_script_runs(rig: Rig) {
    let outcome = rig.run("a", "id; hostname; ls -la / /workspace /run/fleeks /etc | head -80; mount; env; cat /proc/self/status | grep -i cap; python --version; node --version; ip a; ip r; cat /etc/resolv.conf; getent hosts pypi.org").await;
    println!("{}", outcome.output);
    assert_eq!(outcome.code, 0);
    rig.close().await;
}
