//! Ports, names and trust: can the endpoints be reached, and by what name.

use std::net::{IpAddr, SocketAddr, TcpListener, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use inborn_guest::http::{Client, Limits};
use inborn_identity::Clock;
use inborn_pki::CertificateSummary;

use super::{Finding, Patient};
use crate::certificates::Published;
use crate::clock::SystemClock;
use crate::directory::Ready;
use crate::settings::Settings;

/// How long a name may take.
const NAME_PATIENCE: Duration = Duration::from_secs(5);
/// A certificate authority that ends sooner should be renewed by a person who knows who trusts it.
const AUTHORITY_LOW_SECONDS: u64 = 30 * 86_400;
/// Where systems keep the authorities that they trust: Debian, Fedora, SUSE.
const SYSTEM_BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem"];

const RUNNING: &str = "running";
const PORTS: &str = "ports";
const NAMES: &str = "names";
const TRUST: &str = "trust";
const SETTINGS: &str = "settings";

pub(super) async fn look(patient: &Patient, settings: &anyhow::Result<Settings>) -> Vec<Finding> {
    let mut findings = Vec::new();
    match &patient.running {
        Some(ready) => {
            findings.push(running(ready).await);
            findings.push(tls(ready).await);
            findings.push(names(&ready.region, &ready.domain).await);
        }
        None => {
            findings.push(Finding::hint(
                RUNNING,
                format!("no `{}` runs on {}", patient.kind.command(), patient.data.display()),
                format!("`{}`, or `systemctl enable --now {}`", patient.kind.command(), patient.kind.unit()),
            ));
            if let Ok(settings) = settings {
                findings.push(ports(settings));
                findings.push(names(settings.identity.region.as_str(), &settings.identity.domain).await);
            }
        }
    }
    if let Err(error) = settings {
        let next = "mend them, or name others with --config and --env-file; where the unit gives the key as a credential, say \
                    CREDENTIALS_DIRECTORY=/run/credentials/UNIT";
        let found = format!("{error:#}");
        // What runs has read some that are good.
        let is_served = patient.running.is_some();
        findings.push(if is_served {
            Finding::hint(SETTINGS, found, next)
        } else {
            Finding::problem(SETTINGS, found, next)
        });
    }
    findings.push(trust(patient));
    findings
}

async fn get(client: &Client, url: &str) -> Result<(u16, String), String> {
    let request = Request::get(url).body(Bytes::new()).map_err(|error| error.to_string())?;
    let reply = client.call(request).await.map_err(|error| error.to_string())?;
    Ok((reply.status, String::from_utf8_lossy(&reply.body).into_owned()))
}

/// Asks the process how it is.
async fn running(ready: &Ready) -> Finding {
    let Ready { operations, pid, .. } = ready;
    match get(&Client::new(Limits::REGION, None), &format!("{operations}/readyz")).await {
        Ok((200, _)) => Finding::fine(RUNNING, format!("process {pid} is ready")),
        Ok((_, text)) => {
            let reasons: Vec<&str> = text.lines().skip(1).collect();
            Finding::problem(RUNNING, format!("process {pid} is not ready"), reasons.join("; "))
        }
        Err(error) => Finding::problem(RUNNING, format!("process {pid}: {error}"), "restart it; its log says why"),
    }
}

/// Asks by TLS, trusting nothing but the region's own authority.
async fn tls(ready: &Ready) -> Finding {
    let client = Client::new(Limits::REGION, Some(ready.ca_bundle.clone()));
    match get(&client, &ready.tls_endpoint).await {
        // Nobody signed that: what matters is that there was an answer.
        Ok(_) => Finding::fine(PORTS, format!("{} and {} answer", ready.endpoint, ready.tls_endpoint)),
        Err(error) => Finding::problem(
            PORTS,
            format!("{}: {error}", ready.tls_endpoint),
            "is a firewall or a proxy in between, or an older ca.pem? restart it",
        ),
    }
}

/// Tries to listen where the next `up` will.
fn ports(settings: &Settings) -> Finding {
    let wanted =
        [(settings.port, "--port"), (settings.tls_port, "--tls-port"), (settings.operations_port, "--operations-port")];
    let wanted: Vec<(u16, &str)> =
        wanted.into_iter().chain(settings.hosts_port.map(|port| (port, "--hosts-port"))).collect();
    let taken: Vec<String> = wanted
        .iter()
        .filter_map(|(port, flag)| {
            let address = SocketAddr::from((settings.bind, *port));
            TcpListener::bind(address).err().map(|error| format!("{address} ({flag}): {error}"))
        })
        .collect();
    if taken.is_empty() {
        return Finding::fine(
            PORTS,
            format!("{} are free", wanted.iter().map(|(port, _)| port.to_string()).collect::<Vec<_>>().join(", ")),
        );
    }
    let next = "find out who has it with `ss -ltnp`, or choose another port; ports below 1024 need inborn.socket";
    Finding::problem(PORTS, taken.join("; "), next)
}

/// Whether clients find the endpoints by name.
async fn names(region: &str, domain: &str) -> Finding {
    let name = format!("sts.{region}.{domain}");
    if domain.starts_with("amazonaws.") {
        // Nobody has to ask: outside of pockets the name is AWS's.
        return Finding::fine(
            NAMES,
            format!("{name} is AWS's own, except in pockets: clients need AWS_ENDPOINT_URL, as in operator.env"),
        );
    }
    let asked = name.clone();
    let look_up = tokio::task::spawn_blocking(move || (asked, 443_u16).to_socket_addrs().map(Vec::from_iter));
    let addresses: Vec<IpAddr> = match tokio::time::timeout(NAME_PATIENCE, look_up).await {
        Ok(Ok(Ok(addresses))) => addresses.iter().map(SocketAddr::ip).collect(),
        _ => Vec::new(),
    };
    verdict_on_names(&name, domain, &addresses)
}

fn verdict_on_names(name: &str, domain: &str, addresses: &[IpAddr]) -> Finding {
    match addresses.first() {
        Some(address) => Finding::fine(NAMES, format!("{name} is {address}")),
        None => Finding::hint(
            NAMES,
            format!("{name} has no address"),
            format!("give *.{domain} one in your DNS, or set AWS_ENDPOINT_URL for clients; pockets have their own"),
        ),
    }
}

/// Whether clients of this user trust the region's certificates.
fn trust(patient: &Patient) -> Finding {
    let path = patient.data.join(Published::Tls.file());
    let Ok(pem) = std::fs::read_to_string(&path) else {
        let next = format!("`{}` makes it", patient.kind.command());
        return Finding::hint(TRUST, "there is no certificate authority yet", next);
    };
    let ends = CertificateSummary::of(&pem).ok().and_then(|all| all.first().map(|one| one.not_after));
    let Some(ends) = ends else {
        return Finding::problem(
            TRUST,
            format!("{} is damaged", path.display()),
            format!("restart `{}`", patient.kind.command()),
        );
    };
    let left = ends.as_secs().saturating_sub(SystemClock.now().as_secs());
    if left < AUTHORITY_LOW_SECONDS {
        let found = format!("the certificate authority ends at {}", ends.rfc3339());
        return Finding::problem(TRUST, found, "have clients trust its successor: see docs/certificates.md");
    }
    let named = ["AWS_CA_BUNDLE", "SSL_CERT_FILE"].iter().filter_map(std::env::var_os).map(PathBuf::from);
    let bundles = named.chain(SYSTEM_BUNDLES.iter().map(PathBuf::from));
    match bundles.into_iter().find(|bundle| holds(bundle, &pem)) {
        Some(bundle) => Finding::fine(TRUST, format!("{} has the region's certificate authority", bundle.display())),
        None => Finding::hint(
            TRUST,
            "neither this environment nor this system trusts the region's certificate authority",
            format!("for TLS: export AWS_CA_BUNDLE={}", path.display()),
        ),
    }
}

/// Whether a bundle has the first certificate of `pem`.
fn holds(bundle: &Path, pem: &str) -> bool {
    let body = |text: &str| text.split_whitespace().collect::<String>();
    let first = pem.split("-----END").next().and_then(|text| text.rsplit("BEGIN CERTIFICATE-----").next()).map(body);
    std::fs::read_to_string(bundle).is_ok_and(|text| first.is_some_and(|first| body(&text).contains(&first)))
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_bundle_holds_a_certificate_however_it_is_wrapped() {
        let base = tempfile::tempdir().unwrap();
        let pem = "-----BEGIN CERTIFICATE-----\nQUJD\nREVG\n-----END CERTIFICATE-----\n";
        let other = "-----BEGIN CERTIFICATE-----\nWFla\n-----END CERTIFICATE-----\n";
        let bundle = base.path().join("bundle");
        std::fs::write(&bundle, format!("# mine\n{other}{}", pem.replace("QUJD\nREVG", "QUJDREVG"))).unwrap();
        assert!(holds(&bundle, pem) && holds(&bundle, other));
        std::fs::write(&bundle, other).unwrap();
        assert!(!holds(&bundle, pem));
        assert!(!holds(&base.path().join("absent"), pem));
    }

    #[test]
    fn a_name_without_an_address_is_a_hint() {
        let ask = |addresses: &[IpAddr]| verdict_on_names("sts.r.lab.test", "lab.test", addresses);
        assert_eq!(ask(&[]).verdict, Verdict::Hint);
        assert_eq!(ask(&[IpAddr::from([127, 0, 0, 1])]).verdict, Verdict::Fine);
    }
}
