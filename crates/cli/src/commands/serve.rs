//! `comity serve`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use comity_agent::network::{HomeIssuer, follow_networks, keep_authorities};
use comity_agent::{ConfigFile, DEFAULT_LISTEN, Node};
use comity_store::Snapshot;
use comity_tls::{Acceptor, AcceptorConfig, LeafProfile, Limits, ServiceName, Versions};
use comity_trust::{AllowRule, DEFAULT_PORT, Direction, Mode};
use comity_tunnel::{Capacity, DEFAULT_SERVICE, Service, Services, Target, serve as run};
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::Outcome;
use crate::args::Serve;
use crate::commands::block_on;
use crate::context::{Context, check_mode, mode_setting};
use crate::shell::{Exit, Failure, Shell};

pub(crate) fn serve(context: &Context, args: &Serve) -> Outcome {
    let home = context.open_home()?;
    let config = context.config(&home)?;
    let mode = mode_setting(args.accept, config.accept_mode(), "--accept", Mode::Enroll)?.value;
    check_mode(mode, Direction::Accept, args.i_mean_it)?;
    let profile = profile(&names(args, &config));
    let mut node = context.node(&home, profile, "comity serve")?;
    let issuer = HomeIssuer::new(&home, Arc::clone(node.endpoint.store()));
    node.endpoint = node.endpoint.with_issuer(Arc::new(issuer));
    let snapshot = node.endpoint.store().snapshot();
    let services = services(args, &config, &snapshot)?;
    warn_of_strangers(context, &services, &snapshot);
    let listen = args
        .listen
        .clone()
        .or_else(|| config.listen().map(|s| s.value))
        .unwrap_or_else(|| DEFAULT_LISTEN.to_owned());
    let capacity = Capacity::of_process();
    let acceptor = Acceptor::new(
        node.endpoint.clone(),
        AcceptorConfig {
            mode,
            versions: if args.tls12 {
                Versions::Tls12Too
            } else {
                Versions::Tls13
            },
            limits: Limits {
                pending: capacity.pending,
                ..Limits::default()
            },
            ..AcceptorConfig::default()
        },
    );
    block_on(async {
        let shell = context.shell;
        // A resolver that does not answer must not keep the services from being served.
        tokio::spawn(warn_of_names_read_as_hosts(shell, args.targets.clone()));
        listen_and_serve(context, &listen, &node, acceptor, services, capacity).await
    })?
}

/// A rule that names nobody is said. One with an id opens a service to whoever is recognised with
/// it, and does not make the id known: that is a pin, and belongs where `comity trust` shows it. One
/// with a label gives the service to whoever is called so later.
fn warn_of_strangers(context: &Context, services: &Services, snapshot: &Snapshot) {
    let known = &snapshot.known;
    for service in services.iter() {
        let name = &service.name;
        for rule in &service.rules {
            match rule {
                AllowRule::Id(id) if known.pins_of(*id).next().is_none() => {
                    context.shell.warn(format_args!(
                        "--allow {name}={id}: this id is not known here yet; `comity trust add LABEL {id}` makes it known"
                    ));
                }
                AllowRule::Label(label) if !known.has_pin_named(label) => {
                    context.shell.warn(format_args!(
                        "--allow {name}={rule}: nobody has this label yet; whoever gets it may use the service"
                    ));
                }
                AllowRule::Network { network, .. } if !is_known(network, snapshot) => {
                    context.shell.warn(format_args!(
                        "--allow {name}={}: no network of that name or id is known here yet; `comity network list` shows those that are",
                        rule.to_string().trim_start_matches("network:")
                    ));
                }
                _ => {}
            }
        }
    }
}

/// Whether somebody can be in this network: by an authority, or by what a line of `known_peers` says.
fn is_known(network: &str, snapshot: &Snapshot) -> bool {
    let registered = match network.parse() {
        Ok(id) => snapshot.networks.get(&id).is_some(),
        Err(_) => snapshot.networks.by_label(network).is_some(),
    };
    registered || snapshot.known.names_network(network)
}

/// `db:5432` is a host and a port; whoever wanted a service called db finds out only when it is used.
async fn warn_of_names_read_as_hosts(shell: Shell, targets: Vec<String>) {
    for text in &targets {
        let Some((name, port)) = text.split_once(':') else {
            continue;
        };
        let like_a_service =
            name.parse::<ServiceName>().is_ok() && port.bytes().all(|b| b.is_ascii_digit());
        if like_a_service && tokio::net::lookup_host(text).await.is_err() {
            shell.warn(format_args!(
                "reading `{text}` as port {port} of the host {name}, which is not found; for a service called {name} write {name}={port}"
            ));
        }
    }
}

async fn listen_and_serve(
    context: &Context,
    listen: &str,
    node: &Node,
    acceptor: Acceptor,
    services: Services,
    capacity: Capacity,
) -> Outcome {
    let listener = bind(listen).await?;
    let stop = stop_on_signal()?;
    let address = listener.local_addr().map_err(Failure::unable)?;
    let names: Vec<String> = services.iter().map(|s| s.name.to_string()).collect();
    let id = node.endpoint.credentials().node_id();
    context.shell.announce(
        format_args!("listening on {address}"),
        &json!({ "listening": address.to_string(), "id": id.to_string(), "services": names }),
    );
    for service in services.iter() {
        context
            .shell
            .say(format_args!("{} -> {}", service.name, service.target));
    }
    if services.is_empty() {
        context
            .shell
            .say("no service: admits members, and hands out bundles");
    }
    context.shell.say(format_args!("as {id}"));
    let _upkeep = node.endpoint.upkeep();
    let _networks = follow_networks(&node.endpoint);
    let _authorities = keep_authorities(&node.home, &node.endpoint);
    run(listener, acceptor, services, capacity, stop).await;
    context.shell.say("stopped");
    Ok(Exit::Yes)
}

/// A token that SIGINT, SIGTERM or SIGHUP cancels: a terminal that is closed ends its commands in good
/// order. Called before we say that we listen: whoever reads that
/// may send the signal at once.
pub(crate) fn stop_on_signal() -> Result<CancellationToken, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let lost = |error| Failure::unable(format!("cannot watch for signals: {error}"));
    let mut terminate = signal(SignalKind::terminate()).map_err(lost)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(lost)?;
    // Looked at first: watching for a signal is the end of ignoring it.
    let outlives_terminal = ignores_hangup();
    let mut hangup = signal(SignalKind::hangup()).map_err(lost)?;
    let stop = CancellationToken::new();
    let cancelled = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv(), if !outlives_terminal => {}
        }
        cancelled.cancel();
    });
    Ok(stop)
}

/// Whether `nohup` started us, which lets us run on when the terminal is closed.
fn ignores_hangup() -> bool {
    const SIGHUP: u64 = 1;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & SIGHUP != 0)
}

/// Binds the address; where there is no IPv6, the default means every IPv4 address.
pub(crate) async fn bind(listen: &str) -> Result<TcpListener, Failure> {
    let addresses = listen_addresses(listen).await?;
    let bound = match TcpListener::bind(addresses.as_slice()).await {
        Err(_) if listen == DEFAULT_LISTEN && !has_ipv6() => {
            TcpListener::bind((Ipv4Addr::UNSPECIFIED, DEFAULT_PORT)).await
        }
        bound => bound,
    };
    bound.map_err(|error| {
        let failure = Failure::unable(format!("cannot listen on {listen}: {error}"));
        match error.kind() {
            std::io::ErrorKind::AddrInUse => {
                failure.hint("another program has the port; choose one with --listen, or 0 for any")
            }
            std::io::ErrorKind::PermissionDenied => {
                failure.hint("ports below 1024 need root; choose another with --listen")
            }
            _ => failure,
        }
    })
}

fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}

/// Reads `7117`, `127.0.0.1:7117`, `[::]:7117` or `localhost:7117`; a name may stand for several
/// addresses, of which the first that is free is taken.
async fn listen_addresses(text: &str) -> Result<Vec<SocketAddr>, Failure> {
    if let Ok(port) = text.strip_prefix(':').unwrap_or(text).parse::<u16>() {
        return Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into()]);
    }
    let wrong = |cause: std::io::Error| {
        Failure::unable(format!("`{text}` is no address to listen on: {cause}"))
            .hint("write PORT, HOST:PORT or [::]:PORT")
    };
    let found = tokio::net::lookup_host(text).await.map_err(wrong)?;
    Ok(found.collect())
}

fn names(args: &Serve, config: &ConfigFile) -> Vec<String> {
    match args.names.is_empty() {
        true => config.serve_names().map(|s| s.value).unwrap_or_default(),
        false => args.names.clone(),
    }
}

fn profile(names: &[String]) -> LeafProfile {
    let mut profile = LeafProfile::default();
    for name in names {
        match name.parse::<IpAddr>() {
            Ok(ip) => profile.ips.push(ip),
            Err(_) => profile.dns.push(name.clone()),
        }
    }
    profile
}

/// The services of the command line, or else those of the configuration.
fn services(args: &Serve, config: &ConfigFile, snapshot: &Snapshot) -> Result<Services, Failure> {
    let configured = config.services().map(|s| s.value).unwrap_or_default();
    let wanted: Vec<(String, String)> = match args.targets.is_empty() {
        true => configured.into_iter().collect(),
        false => args.targets.iter().map(|t| split_target(t)).collect(),
    };
    let mut allowed = match args.targets.is_empty() {
        true => config.allow().map(|s| s.value).unwrap_or_default(),
        false => BTreeMap::new(),
    };
    for rule in &args.allow {
        let (service, who) = rule.split_once('=').unwrap_or((DEFAULT_SERVICE, rule));
        allowed
            .entry(service.to_owned())
            .or_default()
            .push(who.to_owned());
    }
    let services = wanted
        .iter()
        .map(|(name, target)| service(name, target, allowed.remove(name), snapshot, args))
        .collect::<Result<Vec<Service>, Failure>>()?;
    if let Some(unused) = allowed.keys().next() {
        return Err(Failure::unable(format!(
            "--allow {unused}=…: there is no service `{unused}`"
        )));
    }
    // A node of a network is of use without services: it hands out bundles, and admits members.
    if services.is_empty() && !snapshot.networks.is_empty() {
        return Ok(Services::none());
    }
    Services::new(services).map_err(|error| {
        Failure::unable(error)
            .hint("name one: `comity serve 8080` or `comity serve db=5432`")
            .hint("a node of a network needs none: `comity network create NAME`, or `comity join`")
    })
}

fn service(
    name: &str,
    target: &str,
    who: Option<Vec<String>>,
    snapshot: &Snapshot,
    args: &Serve,
) -> Result<Service, Failure> {
    let mut rules = vec![AllowRule::Granted];
    for who in who.into_iter().flatten() {
        let rule = AllowRule::parse(&who, &snapshot.known, &snapshot.networks)
            .map_err(|error| Failure::unable(format!("--allow {name}={who}: {error}")))?;
        rules.push(rule);
    }
    Ok(Service {
        name: name
            .parse::<ServiceName>()
            .map_err(|e| Failure::unable(format!("`{name}`: {e}")))?,
        target: target.parse::<Target>().map_err(Failure::unable)?,
        rules,
        proxy_header: args.proxy_protocol.is_some(),
    })
}

/// `[NAME=]TARGET`. A path may contain `=`, a name may not contain `/` or `:`.
fn split_target(text: &str) -> (String, String) {
    match text.split_once('=') {
        Some((name, target)) if name.parse::<ServiceName>().is_ok() => {
            (name.to_owned(), target.to_owned())
        }
        _ => (DEFAULT_SERVICE.to_owned(), text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_may_have_a_name() {
        let split = |text: &str| {
            let (name, target) = split_target(text);
            format!("{name} {target}")
        };
        assert_eq!(split("db=5432"), "db 5432");
        assert_eq!(split("5432"), "default 5432");
        assert_eq!(split("unix:/run/a=b.sock"), "default unix:/run/a=b.sock");
    }

    #[tokio::test]
    async fn listen_addresses_are_read_in_every_spelling() {
        for (text, address) in [
            ("7117", "[::]:7117"),
            (":0", "[::]:0"),
            ("127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:9", "[::1]:9"),
        ] {
            let read = listen_addresses(text).await.expect("valid");
            assert_eq!(read, [address.parse().expect("an address")], "{text}");
        }
        let named = listen_addresses("localhost:9").await.expect("a name");
        assert!(named.iter().all(|a| a.ip().is_loopback() && a.port() == 9));
        for text in ["localhost", "::7117", "", "127.0.0.1:65536"] {
            assert!(listen_addresses(text).await.is_err(), "{text}");
        }
    }
}
