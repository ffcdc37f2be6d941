//! TLS as two scanners see it: sslscan asks with OpenSSL's hands, testssl with its own.

use std::{collections::BTreeMap, path::Path, time::Duration};

use lameduck::clock::Clock;
use serde_json::Value;
use tokio::process::Command;

use crate::{certificate::Certificate, pod::Pod, server::Server, tools};

/// testssl opens a process for each of its hundreds of handshakes.
const LONGEST_SCAN: Duration = Duration::from_secs(120);
const AEADS: [&str; 2] = ["GCM", "CHACHA20-POLY1305"];

/// sslscan: which protocols and ciphers there are, and no known hole.
pub(crate) async fn sslscan(python: &Path) -> Result<(), String> {
    let pod = start("sslscan", python).await?;
    let mut command = Command::new("sslscan");
    command.args(["--no-colour", "--xml=-", &pod.proxy_addr.to_string()]);
    let xml = tools::run(command, LONGEST_SCAN).await?;
    let elements = |name: &str| -> Vec<BTreeMap<&str, &str>> {
        xml.lines().filter_map(|line| attributes(line, name)).collect()
    };
    let enabled: Vec<String> = elements("protocol")
        .iter()
        .filter(|protocol| protocol["enabled"] == "1")
        .map(|protocol| format!("{} {}", protocol["type"], protocol["version"]))
        .collect();
    if enabled != ["tls 1.2", "tls 1.3"] {
        return Err(format!("not TLS 1.2 and 1.3 alone: {enabled:?}\n{xml}"));
    }
    let ciphers = elements("cipher");
    let is_weak = |cipher: &&BTreeMap<&str, &str>| match cipher["sslversion"] {
        "TLSv1.3" => false,
        "TLSv1.2" => {
            !cipher["cipher"].starts_with("ECDHE-")
                || !AEADS.iter().any(|aead| cipher["cipher"].contains(aead))
        }
        _ => true,
    };
    if ciphers.len() < 4 || ciphers.iter().any(|cipher| is_weak(&cipher)) {
        return Err(format!("ciphers without forward secrecy or authentication: {ciphers:?}"));
    }
    let holes = elements("heartbleed");
    if holes.is_empty() || holes.iter().any(|hole| hole["vulnerable"] != "0") {
        return Err(format!("heartbleed: {holes:?}\n{xml}"));
    }
    println!("sslscan: {} and {} ciphers", enabled.join(", "), ciphers.len());
    Ok(())
}

/// testssl: the same by other means, and what ALPN offers.
pub(crate) async fn testssl(python: &Path) -> Result<(), String> {
    let pod = start("testssl", python).await?;
    let findings = Path::new(env!("CARGO_TARGET_TMPDIR")).join("real-testssl.json");
    // It would rather stop than write over an older file.
    if findings.exists() {
        std::fs::remove_file(&findings).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new("testssl");
    command
        .args(["--quiet", "--color", "0", "--warnings", "batch", "--nodns", "none"])
        .args(["--protocols", "--std", "--jsonfile"])
        .arg(&findings)
        .arg(pod.proxy_addr.to_string());
    let said = tools::run(command, LONGEST_SCAN).await?;
    let json = std::fs::read_to_string(&findings).map_err(|error| error.to_string())?;
    let found: Vec<Value> =
        serde_json::from_str(&json).map_err(|error| format!("{json}: no JSON: {error}"))?;
    let expected = [
        ("SSLv2", "not offered"),
        ("SSLv3", "not offered"),
        ("TLS1", "not offered"),
        ("TLS1_1", "not offered"),
        ("TLS1_2", "offered"),
        ("TLS1_3", "offered with final"),
        ("ALPN_HTTP2", "h2"),
        ("ALPN", "http/1.1"),
        ("cipherlist_NULL", "not offered"),
        ("cipherlist_aNULL", "not offered"),
        ("cipherlist_EXPORT", "not offered"),
        ("cipherlist_LOW", "not offered"),
        ("cipherlist_3DES_IDEA", "not offered"),
        ("cipherlist_AVERAGE", "not offered"),
        ("cipherlist_STRONG", "offered"),
    ];
    for (id, finding) in expected {
        let finds: Vec<_> = found.iter().filter(|one| one["id"] == id).collect();
        if finds.is_empty() || finds.iter().any(|one| one["finding"] != finding) {
            return Err(format!("{id} should be {finding:?}: {finds:?}\n{said}"));
        }
    }
    println!("testssl: {} findings as expected", expected.len());
    Ok(())
}

// === helpers ===

/// A pod whose proxy speaks TLS.
async fn start(name: &str, python: &Path) -> Result<Pod, String> {
    let certificate = Certificate::make(name)?;
    let mut plan = Server::Node.plan('t', python)?;
    name.clone_into(&mut plan.name);
    plan.variables.extend(certificate.variables());
    Pod::start(plan, Clock::start()).await
}

/// The attributes of an element `name` that begins and ends on this line, as sslscan writes all its findings.
fn attributes<'a>(line: &'a str, name: &str) -> Option<BTreeMap<&'a str, &'a str>> {
    let inside = line.trim().strip_prefix('<')?.strip_suffix("/>")?;
    let mut rest = inside.strip_prefix(name)?.strip_prefix(' ')?;
    let mut attributes = BTreeMap::new();
    while let Some((key, after)) = rest.split_once("=\"") {
        let (value, after) = after.split_once('"')?;
        attributes.insert(key.trim(), value);
        rest = after;
    }
    Some(attributes)
}
