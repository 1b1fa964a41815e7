//! Requests that reach apps.

use std::sync::atomic::Ordering::SeqCst;

use http::Response;

use crate::app::{self, full};
use crate::client::{Client, post, raw, request, tls};
use crate::house::{DOMAIN, House};

#[tokio::test]
async fn an_app_is_reached_over_h1_h2_and_plain() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let clients = [
        ("https", Client::h1(&house).await),
        ("https", Client::h2(&house).await),
        ("http", Client::plain(house.http).await),
    ];
    for (proto, mut client) in clients {
        let host = format!("{}:8443", workspace.host());
        let origin = format!("https://{host}");
        let fields = [
            ("origin", origin.as_str()),
            ("x-forwarded-for", "6.6.6.6"),
            ("x_forwarded_for", "6.6.6.6"),
            ("cookie", "a=1; __Host-fleeks-share=secret"),
        ];
        let answer = client
            .answer(request(&host, "/x/../y?q=%20", &fields))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert!(
            answer.text.starts_with("GET /x/../y?q=%20 HTTP/1.1\n"),
            "{}",
            answer.text
        );
        assert_eq!(answer.mirrored("host"), [host.as_str()]);
        assert_eq!(answer.mirrored("origin"), [origin.as_str()]);
        assert_eq!(answer.mirrored("x-forwarded-for"), ["127.0.0.1"]);
        assert_eq!(answer.mirrored("x-forwarded-proto"), [proto]);
        assert_eq!(answer.mirrored("x-forwarded-host"), [host.as_str()]);
        assert_eq!(answer.mirrored("cookie"), ["a=1"]);
        assert!(!answer.text.contains("6.6.6.6"), "{}", answer.text);

        let answer = client.answer(post(&host, "/", "hello")).await;
        assert!(answer.text.ends_with("\n\nhello"), "{}", answer.text);
    }
    assert_eq!(house.node.in_flight.load(SeqCst), 0);
    assert_eq!(house.node.attached.load(SeqCst), 0);
}

#[tokio::test]
async fn upper_case_in_host_is_lowered() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        let answer = client.get(&workspace.host().to_uppercase(), "/").await;
        assert_eq!(
            answer.mirrored("host"),
            [workspace.host().as_str()],
            "{}",
            answer.text
        );
    }
}

#[tokio::test]
async fn ports_have_addresses_of_their_own() {
    let house = House::new().await;
    let (main, other) = (app::says("main").await, app::says("other").await);
    let workspace = house.workspace(main.address).await;
    house.node.change(&workspace, |room| {
        room.apps.insert(5173, other.address);
    });
    let mut client = Client::h2(&house).await;
    assert_eq!(client.get(&workspace.host(), "/").await.text, "main");
    let host = format!("5173--{}", workspace.host());
    assert_eq!(client.get(&host, "/").await.text, "other");

    let host = format!("4000--{}", workspace.host());
    let answer = client.get(&host, "/").await;
    assert_eq!(answer.status, 502);
    assert!(
        answer.text.contains("these ports do: 3000, 5173"),
        "{}",
        answer.text
    );
    let html = request(&format!("{host}:8443"), "/", &[("accept", "text/html")]);
    let answer = client.answer(html).await;
    let link = format!("//5173--{}:8443/", workspace.host());
    assert!(answer.text.contains(&link), "{}", answer.text);
}

#[tokio::test]
async fn cookies_for_siblings_are_dropped() {
    let house = House::new().await;
    let app = app::serve(|_| async {
        let mut response = Response::new(full("hi"));
        let headers = response.headers_mut();
        headers.append("set-cookie", "ok=1; Path=/".parse().unwrap());
        let bad = format!("bad=1; Domain={DOMAIN}");
        headers.append("set-cookie", bad.parse().unwrap());
        response
    })
    .await;
    let workspace = house.workspace(app.address).await;
    let answer = Client::h1(&house).await.get(&workspace.host(), "/").await;
    let cookies: Vec<_> = answer.headers.get_all("set-cookie").iter().collect();
    assert_eq!(cookies, ["ok=1; Path=/"]);
}

#[tokio::test]
async fn connections_to_the_app_are_reused_but_never_across_generations() {
    let house = House::new().await;
    let (old, new) = (app::says("old").await, app::says("new").await);
    let workspace = house.workspace(old.address).await;
    let mut client = Client::h1(&house).await;
    for _ in 0..5 {
        assert_eq!(client.get(&workspace.host(), "/").await.text, "old");
    }
    assert_eq!(old.connections.load(SeqCst), 1);

    // It sleeps; whoever answers at the same address afterwards is a new generation.
    house.node.change(&workspace, |room| {
        room.awake = false;
        room.apps.insert(3000, new.address);
    });
    house.directory_stops(&workspace).await;
    assert_eq!(client.get(&workspace.host(), "/").await.text, "new");
    assert_eq!(client.get(&workspace.host(), "/").await.text, "new");
    assert_eq!(old.connections.load(SeqCst), 1);
    assert_eq!(new.connections.load(SeqCst), 1);
}

#[tokio::test]
async fn connections_that_take_a_detour_are_reused_too() {
    let house = House::new().await;
    let app = app::says("by way of init").await;
    let workspace = house.workspace(app.address).await;
    house.node.change(&workspace, |room| {
        room.known_as = Some("127.0.0.1:1".parse().unwrap());
    });
    let mut client = Client::h1(&house).await;
    for _ in 0..6 {
        let answer = client.get(&workspace.host(), "/").await;
        assert_eq!(answer.text, "by way of init");
    }
    // The first one only taught the gateway where connections really go.
    assert_eq!(app.connections.load(SeqCst), 2);
}

#[tokio::test]
async fn old_and_absolute_requests_are_understood() {
    let house = House::new().await;
    let app = app::mirror().await;
    let workspace = house.workspace(app.address).await;
    let host = workspace.host();
    let old = format!("GET /old HTTP/1.0\r\nHost: {host}\r\n\r\n");
    let answer = raw(tls(&house, &["http/1.1"], &host).await, old.as_bytes()).await;
    assert!(answer.contains("\r\n\r\nGET /old HTTP/1.1\n"), "{answer}");
    let absolute =
        format!("GET https://{host}/abs?x=1 HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    // No ALPN at all is HTTP/1.
    let answer = raw(tls(&house, &[], &host).await, absolute.as_bytes()).await;
    assert!(
        answer.contains("\r\n\r\nGET /abs?x=1 HTTP/1.1\n"),
        "{answer}"
    );
    assert!(answer.contains(&format!("\nhost: {host}\n")), "{answer}");
}

#[tokio::test]
async fn an_answer_without_a_body_and_one_to_head_keep_the_connection() {
    let house = House::new().await;
    let app = app::serve(|request| async move {
        let mut response = Response::new(full(match request.uri().path() {
            "/empty" => "",
            _ => "text",
        }));
        if request.uri().path() == "/empty" {
            *response.status_mut() = http::StatusCode::NO_CONTENT;
        }
        response
    })
    .await;
    let workspace = house.workspace(app.address).await;
    for mut client in [Client::h1(&house).await, Client::h2(&house).await] {
        for _ in 0..2 {
            assert_eq!(client.get(&workspace.host(), "/empty").await.status, 204);
            let mut head = request(&workspace.host(), "/", &[]);
            *head.method_mut() = http::Method::HEAD;
            let answer = client.answer(head).await;
            assert_eq!((answer.header("content-length"), &*answer.text), ("4", ""));
            let mut head = request("www.fleeks.localhost", "/", &[]);
            *head.method_mut() = http::Method::HEAD;
            let answer = client.answer(head).await;
            assert_eq!((answer.status.as_u16(), &*answer.text), (404, ""));
        }
    }
}
