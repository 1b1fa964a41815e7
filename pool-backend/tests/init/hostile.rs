//! What user code may answer in init's place.

use std::time::Duration;

use fleet::id::JobId;
use init_protocol::codec::{push_json, write_frame};
use init_protocol::{
    FrameKind, JobState, JobStatus, ListeningPort, OutputMeta, RefusalKind, Reply,
};
use pool_backend::init_client::{InitClient, InitError, OutputLimits};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::world::{PATIENCE, TOKEN};

/// A client whose every call is answered with `answer`, again and again if `endless`.
async fn answered(answer: Vec<u8>, endless: bool) -> InitClient {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = InitClient::new(listener.local_addr().unwrap(), TOKEN);
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut asked = [0; 65536];
                let _ = stream.read(&mut asked).await;
                while stream.write_all(&answer).await.is_ok() && endless {}
                let _ = stream.shutdown().await;
                let _ = tokio::io::copy(&mut stream, &mut tokio::io::sink()).await;
            });
        }
    });
    client
}

fn replies(replies: &[Reply]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for reply in replies {
        push_json(&mut bytes, FrameKind::Reply, reply).unwrap();
    }
    bytes
}

fn state(job: &str) -> JobState {
    JobState {
        job: job.to_owned(),
        command: String::new(),
        status: JobStatus::Completed,
        exit_code: Some(0),
        started_at_ms: 0,
        ended_at_ms: Some(0),
        duration_ms: Some(0),
    }
}

fn is_protocol<T: std::fmt::Debug>(result: Result<T, InitError>) {
    assert!(matches!(result, Err(InitError::Protocol(_))), "{result:?}");
}

#[tokio::test]
async fn answers_to_other_questions_are_refused() {
    let client = answered(replies(&[Reply::Job(state("job_other"))]), false).await;
    is_protocol(client.ping().await);
    is_protocol(client.job(&JobId::mint()).await);
    is_protocol(client.stop(&JobId::mint(), Duration::ZERO).await);
    is_protocol(client.jobs().await);
    is_protocol(client.ports().await);
    is_protocol(client.forward(80).await);
    is_protocol(client.remove("x").await);
    is_protocol(client.output(&JobId::mint(), OutputLimits::ALL).await);
}

#[tokio::test]
async fn lists_without_an_end_have_one() {
    let empty = answered(replies(&[Reply::Jobs { jobs: Vec::new() }]), true);
    let ports: Vec<_> = (1..500)
        .map(|port| ListeningPort {
            port,
            loopback_only: false,
        })
        .collect();
    let long = answered(replies(&[Reply::Ports { ports }]), true);
    let (empty, long) = tokio::join!(empty, long);
    let bounded = |call| tokio::time::timeout(PATIENCE, call);
    let jobs = bounded(Box::pin(async move { empty.jobs().await.map(|_| ()) }) as Call).await;
    assert!(jobs.unwrap().is_err());
    let ports = bounded(Box::pin(async move { long.ports().await.map(|_| ()) }) as Call).await;
    is_protocol(ports.unwrap());
}

type Call = std::pin::Pin<Box<dyn Future<Output = Result<(), InitError>> + Send>>;

#[tokio::test]
async fn more_output_than_announced_is_not_taken() {
    let meta = OutputMeta {
        total: 10,
        head: 10,
        tail: 0,
    };
    let mut answer = replies(&[Reply::Output {
        stdout: meta,
        stderr: OutputMeta::default(),
    }]);
    write_frame(&mut answer, FrameKind::Data, &[0; 11])
        .await
        .unwrap();
    let client = answered(answer, false).await;
    is_protocol(client.output(&JobId::mint(), OutputLimits::ALL).await);
}

#[tokio::test]
async fn noise_is_noise() {
    for noise in [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"\x03\xff\xff\xff\xff",
        b"\x03\0\0\0\x02{}",
        b"\x04\0\0\0\0",
    ] {
        is_protocol(answered(noise.to_vec(), true).await.ping().await);
    }
    for cut in [&b""[..], b"\x03\0", b"\x03\0\0\0\x09{"] {
        let ping = answered(cut.to_vec(), false).await.ping().await;
        assert!(matches!(ping, Err(InitError::Unreachable(_))), "{ping:?}");
    }
}

#[tokio::test]
async fn refusals_are_cut_and_clean() {
    let refusal = Reply::Refused {
        kind: RefusalKind::Other,
        message: "\x1b[31m\r\nö".repeat(1000),
    };
    match answered(replies(&[refusal]), false).await.ping().await {
        Err(InitError::Refused { message, .. }) => {
            assert!(message.chars().count() <= 300 && !message.chars().any(char::is_control));
        }
        other => panic!("{other:?}"),
    }
}
