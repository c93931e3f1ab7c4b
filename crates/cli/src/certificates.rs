//! The certificates that a region publishes for those who verify what it signs, and the command that shows them.

use std::io::{ErrorKind, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::ValueEnum;
use inborn_pki::CertificateSummary;
use inborn_region::RegionServer;
use serde_json::json;

use crate::arguments::{Ca, CaCommand, Output, named};
use crate::{directory, output};

/// How long a new region may take to make its keys, on a busy computer.
const MAKING_WAIT: Duration = Duration::from_secs(10);
const MAKING_ROUND: Duration = Duration::from_millis(50);

/// What is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Published {
    /// The certificate authority of the endpoints
    Tls,
    /// Verifies signatures of instance identity documents
    Identity,
    /// The root of those who sign SSH keys for EC2 Instance Connect
    InstanceConnect,
}

impl Published {
    pub(crate) const ALL: [Self; 3] = [Self::Tls, Self::Identity, Self::InstanceConnect];

    const fn name(self) -> &'static str {
        match self {
            Self::Tls => "tls",
            Self::Identity => "identity",
            Self::InstanceConnect => "instance-connect",
        }
    }

    /// Its file in the data directory, and its path at the operations endpoint.
    pub(crate) const fn file(self) -> &'static str {
        match self {
            Self::Tls => "ca.pem",
            Self::Identity => "identity.pem",
            Self::InstanceConnect => "instance-connect.pem",
        }
    }

    /// `None` while it is being made, in the first second of a new region.
    pub(crate) fn pem(self, region: &RegionServer) -> Option<String> {
        match self {
            Self::Tls => Some(region.authority().certificate_pem().to_owned()),
            Self::Identity => region.document_signer().map(|signer| signer.certificate_pem().to_owned()),
            Self::InstanceConnect => region.instance_connect_signer().map(|signer| signer.root_pem().to_owned()),
        }
    }
}

/// Writes those that are there into the data directory.
pub(crate) fn publish(data: &Path, region: &RegionServer) -> anyhow::Result<()> {
    for published in Published::ALL {
        if let Some(pem) = published.pem(region) {
            directory::replace_private(&data.join(published.file()), pem.as_bytes())?;
        }
    }
    Ok(())
}

/// `inborn ca`.
pub(crate) fn ca(arguments: &Ca) -> anyhow::Result<()> {
    let ready = directory::find(named(arguments.data.as_ref()))?;
    let is_running = ready.is_some();
    let data = match (ready, named(arguments.data.as_ref())) {
        (Some(ready), _) => ready.data,
        (None, Some(data)) => data.to_owned(),
        (None, None) => directory::default_path()?,
    };
    if is_running {
        await_all(&data);
    }
    let mut out = std::io::stdout().lock();
    match arguments.command {
        Some(CaCommand::Show { certificate }) => {
            let Some(pem) = read(&data, certificate)? else {
                bail!(
                    "there is no certificate `{}` in {}: `inborn up` makes it at its first start there",
                    certificate.name(),
                    data.display()
                );
            };
            out.write_all(pem.as_bytes())?;
            Ok(())
        }
        None => list(&mut out, &data, arguments.output),
    }
}

/// A region that was made a moment ago is still making some.
fn await_all(data: &Path) {
    let deadline = Instant::now() + MAKING_WAIT;
    while Published::ALL.iter().any(|published| !data.join(published.file()).exists()) && Instant::now() < deadline {
        std::thread::sleep(MAKING_ROUND);
    }
}

fn list(out: &mut impl Write, data: &Path, form: Output) -> anyhow::Result<()> {
    let mut found = Vec::new();
    for published in Published::ALL {
        if let Some(pem) = read(data, published)? {
            let summaries = CertificateSummary::of(&pem).with_context(|| at(data, published))?;
            found.extend(summaries.into_iter().map(|summary| (published, summary)));
        }
    }
    if found.is_empty() {
        bail!("there are no certificates in {}: `inborn up` makes them at its first start there", data.display());
    }
    match form {
        Output::Json => {
            let object = |(published, summary): &(Published, CertificateSummary)| {
                json!({
                    "certificate": published.name(),
                    "name": summary.name,
                    "sha256_fingerprint": summary.fingerprint,
                    "expires": summary.not_after.rfc3339(),
                    "file": data.join(published.file()),
                })
            };
            writeln!(out, "{:#}", output::Json(&found.iter().map(object).collect()))?;
        }
        Output::Table => {
            for (place, (published, summary)) in found.iter().enumerate() {
                if place > 0 {
                    writeln!(out)?;
                }
                let file = data.join(published.file());
                output::fields(
                    out,
                    &[
                        ("certificate", published.name()),
                        ("name", &summary.name),
                        ("sha256", &summary.fingerprint),
                        ("expires", &summary.not_after.rfc3339()),
                        ("file", &file.display().to_string()),
                    ],
                )?;
            }
        }
    }
    Ok(())
}

fn read(data: &Path, published: Published) -> anyhow::Result<Option<String>> {
    match std::fs::read_to_string(data.join(published.file())) {
        Ok(pem) => Ok(Some(pem)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| at(data, published)),
    }
}

fn at(data: &Path, published: Published) -> String {
    format!("cannot read {}", data.join(published.file()).display())
}
