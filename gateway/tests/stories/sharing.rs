//! Private workspaces: who came by a share link gets in, and nobody else wakes anything.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use fleet::directory::Directory as _;
use fleet::id::LinkId;
use fleet::lifecycle::State;
use fleet::record::Private;
use fleet::share::{Grant, ShareKey};
use time::{Duration, OffsetDateTime};

use crate::app;
use crate::client::{Answer, Client, request};
use crate::house::{House, SHARE_KEY, Workspace};

struct Link {
    id: LinkId,
    token: String,
}

fn link(workspace: &Workspace, port: Option<u16>) -> Link {
    let grant = Grant {
        link: LinkId::mint(),
        expires_at: OffsetDateTime::now_utc() + Duration::hours(1),
    };
    let key = ShareKey::from_bits(&SHARE_KEY);
    Link {
        token: key.sign(&workspace.slug, port, &grant),
        id: grant.link,
    }
}

async fn only_for(house: &House, workspace: &Workspace, links: &[&Link]) {
    let links = links.iter().map(|link| link.id.clone()).collect();
    let private = Some(Arc::new(Private { links }));
    let set = house.directory.set_private(&workspace.id, private);
    set.await.unwrap();
}

fn cookie(answer: &Answer) -> String {
    let cookie = answer.header("set-cookie").split(';').next();
    cookie.unwrap().to_owned()
}

/// Until it answers so: the gateway hears of a change a moment after it was made.
async fn becomes(client: &mut Client, host: &str, cookie: &str, status: u16) -> Answer {
    let settled = async {
        loop {
            let answer = client
                .answer(request(host, "/", &[("cookie", cookie)]))
                .await;
            if answer.status == status {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    };
    let settled = tokio::time::timeout(crate::client::PATIENCE, settled);
    settled.await.unwrap()
}

#[tokio::test]
async fn a_share_link_opens_one_port_until_it_is_revoked() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let (first, second) = (link(&workspace, None), link(&workspace, None));
    only_for(&house, &workspace, &[&first, &second]).await;
    let host = workspace.host();
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        let refused = client.get(&host, "/").await;
        assert_eq!(refused.status, 403, "{}", refused.text);
        assert!(refused.text.contains("\"private\""), "{}", refused.text);

        let path = format!("//evil.example/x?a=1&fleeks_share={}", first.token);
        let shared = client.get(&host, &path).await;
        assert_eq!(shared.status, 302, "{}", shared.text);
        let expected = format!("https://{host}//evil.example/x?a=1");
        assert_eq!(shared.header("location"), expected);
        assert_eq!(shared.header("cache-control"), "no-store");
        let cookie = format!("mine=1; {}", cookie(&shared));

        let inside = client
            .answer(request(&host, "/", &[("cookie", &cookie)]))
            .await;
        assert_eq!(inside.status, 200, "{}", inside.text);
        assert_eq!(inside.mirrored("cookie"), ["mine=1"]);
        assert!(!inside.text.contains(&first.token), "{}", inside.text);
        // Of this host only.
        let other = format!("3000--{host}");
        let elsewhere = client
            .answer(request(&other, "/", &[("cookie", &cookie)]))
            .await;
        assert_eq!(elsewhere.status, 403);
    }
    let mut client = Client::h1(&house).await;
    let enter = format!("/?fleeks_share={}", first.token);
    let pass = cookie(&client.get(&host, &enter).await);
    only_for(&house, &workspace, &[&second]).await;
    becomes(&mut client, &host, &pass, 403).await;
    assert_eq!(client.get(&host, &enter).await.status, 403);
    // The other link goes on.
    let enter = format!("/?fleeks_share={}", second.token);
    assert_eq!(client.get(&host, &enter).await.status, 302);
    // Public again: whoever comes.
    house
        .directory
        .set_private(&workspace.id, None)
        .await
        .unwrap();
    becomes(&mut client, &host, "", 200).await;
}

#[tokio::test]
async fn nobody_wakes_what_they_may_not_see() {
    let house = House::new().await;
    let app = app::says("inside").await;
    let workspace = house
        .workspace_in(State::Hibernated, true, app.address)
        .await;
    let link = link(&workspace, Some(3000));
    only_for(&house, &workspace, &[&link]).await;
    let host = format!("3000--{}", workspace.host());
    let mut client = Client::h1(&house).await;
    let forged = "/?fleeks_share=shr_aaaaaaaaaaaaaaaa.9999999999.AAAA";
    for path in ["/", forged, "/?fleeks_share="] {
        let refused = client.get(&host, path).await;
        assert_eq!(refused.status, 403, "{path}: {}", refused.text);
    }
    let enter = format!("/?fleeks_share={}", link.token);
    let shared = client.get(&host, &enter).await;
    assert_eq!(shared.status, 302, "{}", shared.text);
    assert_eq!(house.node.woken.load(SeqCst), 0, "nobody was let in yet");
    let pass = cookie(&shared);
    let inside = client
        .answer(request(&host, "/", &[("cookie", &pass)]))
        .await;
    assert_eq!(inside.text, "inside");
    assert_eq!(house.node.woken.load(SeqCst), 1);
}

#[tokio::test]
async fn a_page_tells_people_that_it_is_private() {
    let house = House::new().await;
    let app = app::says("inside").await;
    let workspace = house.workspace(app.address).await;
    only_for(&house, &workspace, &[]).await;
    let mut client = Client::h1(&house).await;
    let page = client
        .answer(request(&workspace.host(), "/", &[("accept", "text/html")]))
        .await;
    assert_eq!(page.status, 403);
    assert!(
        page.text.contains("This preview is private"),
        "{}",
        page.text
    );
}
