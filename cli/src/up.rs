//! `fleeks up`: every part in one process, started in the order in which they need each other and
//! stopped in the reverse order.

mod ready;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use certs::{Certificates, Domain};
use fleet::directory::Directory;
use fleet::directory::local::LocalDirectory;
use fleet::instance::DataDir;
use fleet::record::RecordStore;
use fleet::share::ShareKey;
use fleet::timing;
use gateway::{Admin, Gateway, GatewayConfig};
use pool_backend::config::{NodeConfig, RuntimeChoice};
use pool_backend::node::Node;
use pool_backend::runtime::RuntimeKind;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;
use server::agent_api::PublicUrls;
use server::{Console, Server, ServerConfig, ServerParts};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tracing::info;

use crate::args::UpArgs;
use crate::config::{CONSOLE, INIT, UpConfig};
use crate::report;

/// Runs until SIGTERM or SIGINT.
pub fn run(args: &UpArgs) -> anyhow::Result<ExitCode> {
    let config = UpConfig::from_args(args)?;
    start_logging(args.log_json);
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the tokio runtime does not start")?
        .block_on(serve(config))
}

/// `FLEEKS_LOG` takes directives of `tracing_subscriber`, e.g. `info,gateway=debug`.
fn start_logging(json: bool) {
    use tracing_subscriber::EnvFilter;
    let filter = EnvFilter::try_from_env("FLEEKS_LOG")
        .unwrap_or_else(|_| EnvFilter::new("warn,fleeks=info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.init();
    }
}

async fn serve(config: UpConfig) -> anyhow::Result<ExitCode> {
    // First of all, so that a signal during start-up is not lost.
    let mut signals = Signals::listen()?;
    refuse_strangers_on_runc(&config, config.runtime == RuntimeChoice::Runc)?;
    // Early, because a taken port is the commonest fault and the node takes a while.
    let listeners = [("--https", config.https), ("--http", config.http)];
    let admin = config.admin.map(|address| ("--admin", address));
    for (flag, address) in listeners.into_iter().chain(admin) {
        drop(TcpListener::bind(address).await.with_context(|| {
            format!("{flag} {address} cannot be used; choose another with {flag} ADDR:PORT")
        })?);
    }

    let data = DataDir::open(&config.data_dir)?;
    let instance = data.instance().clone();
    let domain: Domain = config.domain.parse()?;
    let certificates = Arc::new(Certificates::open(&config.data_dir, &domain).await?);
    let directory: Arc<dyn Directory> = Arc::new(LocalDirectory::new(data.node().clone()));
    let node = tokio::select! {
        node = Node::start(node_config(&config), data, Arc::clone(&directory)) => node?,
        () = signals.received() => return Ok(ExitCode::SUCCESS),
    };

    let outcome = run_edge(
        &config,
        &node,
        directory,
        &certificates,
        &mut signals,
        &instance,
    )
    .await;
    node.shutdown().await;
    outcome
}

/// Gateway and API over a running node, until a signal.
async fn run_edge(
    config: &UpConfig,
    node: &Arc<Node>,
    directory: Arc<dyn Directory>,
    certificates: &Arc<Certificates>,
    signals: &mut Signals,
    instance: &fleet::id::InstanceId,
) -> anyhow::Result<ExitCode> {
    refuse_strangers_on_runc(config, node.runtime() == RuntimeKind::Runc)?;
    let socket = config.data_dir.join("run").join("node.sock");
    let share_key = Arc::new(ShareKey::open(&config.data_dir).context("share-key")?);
    let parts = gateway::Parts {
        directory,
        door: node.door(),
        tls: certificates.server_config()?,
        api_socket: socket.clone(),
        share_key: Arc::clone(&share_key),
    };
    let gateway = Gateway::bind(gateway_config(config), parts).await?;
    let admin = match config.admin {
        Some(address) => Some(Admin::bind(address).await?),
        None => None,
    };
    let (https, http) = (gateway.https_addr(), gateway.http_addr());
    let public_port = config.public_port.unwrap_or(https.port());

    let (set_ready, ready) = watch::channel(false);
    let server = Server::bind(
        ServerConfig {
            socket,
            data_dir: config.data_dir.clone(),
        },
        ServerParts {
            workspaces: node.workspaces(),
            records: RecordStore::open(&config.data_dir)?,
            ready: ready.clone(),
            share_key,
            console: Console::open(CONSOLE, &config.domain)?,
            public: PublicUrls {
                domain: config.domain.clone(),
                https: true,
                port: public_port,
                loopback_http_port: Some(http.port()),
            },
        },
    )
    .await?;
    let api_key_file = server.api_key_file();

    let admin_addr = admin.as_ref().map(Admin::address);
    let registry = registry(node, &gateway.metrics());
    let admin_task = admin.map(|admin| tokio::spawn(admin.run(registry, ready)));
    let (stop_gateway, gateway_stops) = watch::channel(false);
    let (stop_server, mut server_stops) = watch::channel(false);
    let gateway_task = tokio::spawn(gateway.run(gateway_stops));
    let farewell = server.farewell();
    let server_task = tokio::spawn(server.run(async move {
        // An error means that the sender is gone, which is a stop as well.
        let _ = server_stops.wait_for(|stop| *stop).await;
    }));
    let renewal = {
        let certificates = Arc::clone(certificates);
        tokio::spawn(async move { certificates.keep_renewed(timing::CERTIFICATE_CHECK).await })
    };

    set_ready.send_replace(true);
    let block = ready::Ready {
        https,
        http,
        admin: admin_addr,
        public_port,
        domain: &config.domain,
        api_key_file: &api_key_file,
        ca_file: certificates.ca_file(),
        runtime: node.runtime(),
        public: config.is_public(),
        instance,
        pid: std::process::id(),
    };
    report::line(&block.to_string());
    if let Some(file) = &config.ready_file {
        write_ready_file(file, &block)?;
    }

    signals.received().await;
    info!("draining");
    renewal.abort();
    stop_gateway.send_replace(true);
    farewell.send_replace(true);
    let gateway_ended = gateway_task.await;
    stop_server.send_replace(true);
    let server_ended = server_task.await;
    if let Some(admin) = admin_task {
        admin.abort();
    }
    gateway_ended.context("the gateway failed")?;
    server_ended.context("the API server failed")?;
    Ok(ExitCode::SUCCESS)
}

/// All that operators can ask for.
fn registry(node: &Node, gateway: &gateway::Metrics) -> Registry {
    let mut registry = Registry::with_prefix("fleeks");
    let about = Info::new([
        ("version", env!("CARGO_PKG_VERSION")),
        ("runtime", node.runtime().name()),
    ]);
    registry.register("build", "What runs here", about);
    node.register(&mut registry);
    gateway.register(registry.sub_registry_with_prefix("gateway"));
    registry
}

/// runc shares the kernel and host uid 0 with what it runs: on a public address only on demand.
fn refuse_strangers_on_runc(config: &UpConfig, is_runc: bool) -> anyhow::Result<()> {
    ensure!(
        !is_runc || !config.is_public() || config.trust_code,
        "runc on the public address {} would run strangers' code as uid 0 of this host; use \
         --runtime runsc (`fleeks doctor` says what it lacks), or say --trust-code if all code \
         here is yours",
        config.https
    );
    Ok(())
}

fn node_config(config: &UpConfig) -> NodeConfig {
    NodeConfig {
        data_dir: config.data_dir.clone(),
        runtime: config.runtime,
        prefix: config.prefix.clone(),
        pools: config.pools.clone(),
        pool_memory: config.pool_memory,
        template_dir: config.templates.clone(),
        init_binary: INIT,
        limits: config.limits,
        domain: config.domain.clone(),
        freeze_after: config.freeze_after,
        snapshot_bytes: config.snapshot_bytes,
        reconcile_every: config.reconcile_every,
        fail_points: config.fail_points.clone(),
    }
}

fn gateway_config(config: &UpConfig) -> GatewayConfig {
    let mut gateway = GatewayConfig::new(config.domain.clone(), config.https, config.http);
    gateway.public_https_port = config.public_port.unwrap_or(config.https.port());
    gateway.forbidden_ports = vec![pool_backend::CONTROL_PORT];
    gateway
}

/// Whole or not at all: whoever waits for the file reads it at once.
fn write_ready_file(path: &Path, ready: &ready::Ready<'_>) -> anyhow::Result<()> {
    let Some(name) = path.file_name() else {
        bail!("--ready-file {} is not a file name", path.display());
    };
    let mut partial = name.to_owned();
    partial.push(".partial");
    let partial = path.with_file_name(partial);
    let text = serde_json::to_string_pretty(ready)?;
    std::fs::write(&partial, text)
        .and_then(|()| std::fs::rename(&partial, path))
        .with_context(|| format!("--ready-file {} cannot be written", path.display()))
}

/// SIGTERM and SIGINT.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> anyhow::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).context("SIGTERM cannot be caught")?,
            interrupt: signal(SignalKind::interrupt()).context("SIGINT cannot be caught")?,
        })
    }

    /// The next of either. Cancel safe.
    async fn received(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => (),
            _ = self.interrupt.recv() => (),
        }
    }
}
