//! nginx as a TLS proxy without a tunnel, and two of them with TLS between; each with plain HTTP to the inner
//! server and with TLS.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{
    Ground, NGINX, NGINX_TLS, NGINX_TWICE, NGINX_TWICE_TLS, PATIENCE, Peer, PeerError, loopback, ports,
};
use crate::lab::{KeyKind, ServerFiles};
use crate::process::{EndBy, Process};

/// The lines of a server that speaks TLS as everybody here does.
pub(super) fn tls_lines(files: &ServerFiles) -> String {
    format!(
        " ssl_certificate \"{}\";\n ssl_certificate_key \"{}\";\n ssl_protocols TLSv1.3;\n ssl_ecdh_curve X25519;\n",
        files.certificate.display(),
        files.key.display()
    )
}

/// Writes a configuration: what is here is what nginx needs to be at its best in such a measurement.
pub(super) fn write(folder: &Path, servers: &str) -> Result<PathBuf, PeerError> {
    let at = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path \"{at}/{name}\";\n"))
        .concat();
    let text = format!(
        "user root;\nworker_processes auto;\nworker_rlimit_nofile 20000;\ndaemon off;\npid \"{at}/nginx.pid\";\n\
         error_log \"{at}/error.log\" warn;\nevents {{ worker_connections 9000; }}\nhttp {{\naccess_log off;\n{temporary}\
         default_type application/octet-stream;\nsendfile on;\ntcp_nopush on;\nopen_file_cache max=100 inactive=1h;\n\
         keepalive_requests 1000000000;\nkeepalive_timeout 1h;\n{servers}}}\n"
    );
    let path = folder.join("nginx.conf");
    std::fs::write(&path, text)?;
    Ok(path)
}

fn start(ground: &Ground<'_>, folder: &Path, config: &Path) -> Result<Process, PeerError> {
    let mut command = Command::new(ground.program("nginx")?);
    command.arg("-c").arg(config).arg("-p").arg(folder);
    Ok(Process::start("nginx", command, folder, EndBy::Signal)?)
}

fn upstream(to: &str) -> String {
    format!(
        "upstream up {{ server {to}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 1h; }}\n"
    )
}

/// A location that passes everything on over kept connections, large answers without a file between.
fn pass(scheme: &str) -> String {
    format!(
        " location / {{ proxy_pass {scheme}://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; \
         proxy_set_header Host $host; proxy_max_temp_file_size 0; proxy_ssl_session_reuse on; \
         proxy_ssl_verify off; proxy_ssl_protocols TLSv1.3; }}\n"
    )
}

/// A server that speaks TLS and passes everything on.
fn server(port: u16, files: &ServerFiles, scheme: &str, more: &str) -> String {
    format!(
        "server {{\n listen 127.0.0.1:{port} ssl reuseport backlog=4096;\n{}{more}{}}}\n",
        tls_lines(files),
        pass(scheme)
    )
}

/// One nginx: TLS outside, plain HTTP over kept connections inside.
pub(super) fn proxy(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let folder = ground.subfolder(NGINX)?;
    let [main, rsa, asking] = ports()?;
    let ecdsa_files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let rsa_files = ground.authority.issue(&folder, "rsa", KeyKind::Rsa)?;
    let servers = upstream(&ground.inner.plain.to_string())
        + &server(main, &ecdsa_files, "http", "")
        + &server(rsa, &rsa_files, "http", "")
        // A device's certificate is of no authority and for no purpose that nginx knows: it is to be asked for,
        // its key proved, and the request passed on.
        + &server(
            asking,
            &ecdsa_files,
            "http",
            " ssl_verify_client optional_no_ca;\n error_page 495 =200 @unjudged;\n location @unjudged { \
             proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\"; }\n",
        );
    let mut process = start(ground, &folder, &write(&folder, &servers)?)?;
    process.wait_for_port(loopback(asking), PATIENCE)?;
    Ok(Peer {
        rsa: Some(loopback(rsa)),
        asking: Some(loopback(asking)),
        ..peer(NGINX, "nginx TLS proxy, no tunnel", loopback(main), vec![process])
    })
}

/// One nginx: TLS outside, and TLS over kept connections inside.
///
/// This is what Roamgate does on its inner hop, because gateways publish no role that speaks plain HTTP.
pub(super) fn proxy_tls(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    let (process, address) = pass_on(ground, NGINX_TLS, ground.inner.tls, "https")?;
    Ok(peer(NGINX_TLS, "nginx TLS proxy with TLS inside, no tunnel", address, vec![process]))
}

/// Two of them: TLS outside, TLS between, plain HTTP inside.
pub(super) fn twice(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    chain(ground, NGINX_TWICE, "nginx → TLS → nginx", ground.inner.plain, "http")
}

/// Two of them with TLS everywhere.
pub(super) fn twice_tls(ground: &Ground<'_>) -> Result<Peer, PeerError> {
    chain(ground, NGINX_TWICE_TLS, "nginx → TLS → nginx with TLS inside", ground.inner.tls, "https")
}

fn chain(
    ground: &Ground<'_>,
    id: &'static str,
    title: &str,
    to: SocketAddr,
    scheme: &str,
) -> Result<Peer, PeerError> {
    let (inside, between) = pass_on(ground, &format!("{id}-inside"), to, scheme)?;
    let (outside, address) = pass_on(ground, &format!("{id}-outside"), between, "https")?;
    Ok(peer(id, title, address, vec![outside, inside]))
}

/// Starts an nginx that passes everything on to one address; where it listens.
fn pass_on(
    ground: &Ground<'_>,
    folder: &str,
    to: SocketAddr,
    scheme: &str,
) -> Result<(Process, SocketAddr), PeerError> {
    let folder = ground.subfolder(folder)?;
    let [port] = ports()?;
    let files = ground.authority.issue(&folder, "ecdsa", KeyKind::Ecdsa)?;
    let servers = upstream(&to.to_string()) + &server(port, &files, scheme, "");
    let mut process = start(ground, &folder, &write(&folder, &servers)?)?;
    process.wait_for_port(loopback(port), PATIENCE)?;
    Ok((process, loopback(port)))
}

/// A peer of these processes; devices meet the first.
fn peer(id: &'static str, title: &str, address: SocketAddr, processes: Vec<Process>) -> Peer {
    let all: Vec<u32> = processes.iter().map(Process::id).collect();
    Peer {
        id,
        title: title.to_owned(),
        address,
        rsa: None,
        asking: None,
        is_tls: true,
        prefix: String::new(),
        front: all.first().copied().unwrap_or_default(),
        all,
        processes,
    }
}
