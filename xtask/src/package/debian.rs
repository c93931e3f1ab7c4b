//! Which packages there are, and what is in them.

/// A package.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    summary: &'static str,
    description: &'static str,
    /// Fields of its own, one a line.
    fields: &'static str,
    /// What it needs beside what its binary needs or the package of the program.
    depends: &'static str,
    pub(crate) files: &'static [File],
}

/// A file of a package.
pub(crate) struct File {
    pub(crate) content: Content,
    /// Its path below the root.
    pub(crate) to: &'static str,
    pub(crate) mode: u32,
    pub(crate) is_compressed: bool,
}

/// Where the bytes of a file come from.
pub(crate) enum Content {
    /// A file of the source tree.
    Source(&'static str),
    /// The program.
    Binary,
    /// A file that the manual's test wrote.
    Manual(&'static str),
    /// All man pages, into a directory.
    ManPages,
}

const fn source(from: &'static str, to: &'static str) -> File {
    File { content: Content::Source(from), to, mode: 0o644, is_compressed: false }
}

const fn program(from: &'static str, to: &'static str) -> File {
    File { content: Content::Source(from), to, mode: 0o755, is_compressed: false }
}

const fn manual(from: &'static str, to: &'static str) -> File {
    File { content: Content::Manual(from), to, mode: 0o644, is_compressed: false }
}

const fn compressed(from: &'static str, to: &'static str) -> File {
    File { content: Content::Source(from), to, mode: 0o644, is_compressed: true }
}

/// All packages, those that others need first.
pub(crate) const PACKAGES: &[Package] = &[
    Package {
        name: "inborn",
        summary: "identities that machines are born with",
        description: "\
Inborn is a self-hosted implementation of EC2 instance identity roles: a machine
that is launched finds credentials at the link-local metadata address, which
rotate by themselves and which AWS's own tools can use.
.
This package has the program, with everything it can do: region, host, and what
runs inside machines. Its services are not enabled: systemctl enable --now inborn
for a region on one computer, inborn-region for one of several servers.",
        fields: "Recommends: ca-certificates, openssh-client\nSuggests: passt, awscli, inborn-host\n",
        depends: "systemd | systemd-standalone-sysusers | adduser",
        files: &[
            File { content: Content::Binary, to: "usr/bin/inborn", mode: 0o755, is_compressed: false },
            File { content: Content::ManPages, to: "usr/share/man/man1", mode: 0o644, is_compressed: false },
            manual("inborn.bash", "usr/share/bash-completion/completions/inborn"),
            manual("_inborn", "usr/share/zsh/vendor-completions/_inborn"),
            manual("inborn.fish", "usr/share/fish/vendor_completions.d/inborn.fish"),
            source("contrib/systemd/inborn.service", "usr/lib/systemd/system/inborn.service"),
            source("contrib/systemd/inborn-region.service", "usr/lib/systemd/system/inborn-region.service"),
            source("contrib/systemd/inborn-region.socket", "usr/lib/systemd/system/inborn-region.socket"),
            source("contrib/systemd/inborn-region-tls.socket", "usr/lib/systemd/system/inborn-region-tls.socket"),
            source("contrib/systemd/inborn.socket", "usr/lib/systemd/system/inborn.socket"),
            source("contrib/systemd/inborn-tls.socket", "usr/lib/systemd/system/inborn-tls.socket"),
            source("contrib/systemd/sysusers.conf", "usr/lib/sysusers.d/inborn.conf"),
            source("contrib/systemd/tmpfiles.conf", "usr/lib/tmpfiles.d/inborn.conf"),
            source("contrib/debian/inborn.toml", "etc/inborn/inborn.toml"),
            source("contrib/debian/region.toml", "etc/inborn/region.toml"),
            source("contrib/monitoring/alerts.yaml", "usr/share/inborn/monitoring/alerts.yaml"),
            source("contrib/monitoring/dashboard.json", "usr/share/inborn/monitoring/dashboard.json"),
            source("contrib/debian/copyright", "usr/share/doc/inborn/copyright"),
            compressed("CHANGELOG.md", "usr/share/doc/inborn/changelog"),
            source("README.md", "usr/share/doc/inborn/README.md"),
            source("COMPAT.md", "usr/share/doc/inborn/COMPAT.md"),
            source("docs/accounts.md", "usr/share/doc/inborn/accounts.md"),
            source("docs/attachments.md", "usr/share/doc/inborn/attachments.md"),
            source("docs/certificates.md", "usr/share/doc/inborn/certificates.md"),
            source("docs/cli.md", "usr/share/doc/inborn/cli.md"),
            source("docs/detection.md", "usr/share/doc/inborn/detection.md"),
            source("docs/hosts.md", "usr/share/doc/inborn/hosts.md"),
            source("docs/instance-connect.md", "usr/share/doc/inborn/instance-connect.md"),
            source("docs/operations.md", "usr/share/doc/inborn/operations.md"),
            source("docs/revocation.md", "usr/share/doc/inborn/revocation.md"),
            source("docs/scaling.md", "usr/share/doc/inborn/scaling.md"),
            source("docs/stores.md", "usr/share/doc/inborn/stores.md"),
            source("docs/systems-manager.md", "usr/share/doc/inborn/systems-manager.md"),
            source("docs/telemetry.md", "usr/share/doc/inborn/telemetry.md"),
            source("docs/threat-model.md", "usr/share/doc/inborn/threat-model.md"),
        ],
    },
    Package {
        name: "inborn-host",
        summary: "identities for machines of hypervisors and container runtimes",
        description: "\
For a computer that runs machines: gives the service of inborn the privileges to
hear them in network namespaces and behind interfaces, and has libvirt, Podman,
CRI-O and Firecracker tell it when one starts and stops. Examples for Proxmox VE
and systemd-nspawn are in /usr/share/doc/inborn-host/examples.
.
For a host whose region is elsewhere there is inborn-host.service, which is not
enabled. Such a host launches nothing itself: operators launch onto it through
the region. The hooks of this package are for a region on the same computer.",
        fields: "Enhances: libvirt-daemon, podman\n",
        depends: "iproute2",
        files: &[
            source("contrib/systemd/inborn-host.conf", "usr/lib/systemd/system/inborn.service.d/host.conf"),
            source("contrib/systemd/inborn-host.service", "usr/lib/systemd/system/inborn-host.service"),
            program("contrib/libvirt/qemu", "etc/libvirt/hooks/qemu.d/inborn"),
            source("contrib/oci/90-inborn.json", "usr/share/containers/oci/hooks.d/90-inborn.json"),
            program("contrib/firecracker/inborn-firecracker", "usr/bin/inborn-firecracker"),
            program("contrib/proxmox/inborn-hookscript", "usr/share/doc/inborn-host/examples/inborn-hookscript"),
            source("contrib/nspawn/inborn.conf", "usr/share/doc/inborn-host/examples/systemd-nspawn-inborn.conf"),
            source("contrib/debian/inborn-host.README.Debian", "usr/share/doc/inborn-host/README.Debian"),
            source("contrib/debian/copyright", "usr/share/doc/inborn-host/copyright"),
        ],
    },
    Package {
        name: "inborn-guest",
        summary: "publishes the SSH host keys of a machine to its region",
        description: "\
For the inside of a machine, on Inborn or on EC2: publishes its SSH host keys at
boot and when they change, with proof, so that nobody who logs in has to trust
blindly. Units for host certificates and for the sensor, which tells the region
what happens on the machine, are there too, and not enabled.",
        fields: "",
        depends: "openssh-server, openssh-client",
        files: &[
            source("contrib/systemd/inborn-host-keys.service", "usr/lib/systemd/system/inborn-host-keys.service"),
            source("contrib/systemd/inborn-host-keys.path", "usr/lib/systemd/system/inborn-host-keys.path"),
            source(
                "contrib/systemd/inborn-host-certificates.service",
                "usr/lib/systemd/system/inborn-host-certificates.service",
            ),
            source(
                "contrib/systemd/inborn-host-certificates.timer",
                "usr/lib/systemd/system/inborn-host-certificates.timer",
            ),
            source(
                "contrib/systemd/inborn-host-certificates.path",
                "usr/lib/systemd/system/inborn-host-certificates.path",
            ),
            source("contrib/systemd/inborn-sensor.service", "usr/lib/systemd/system/inborn-sensor.service"),
            source("contrib/selinux/inborn_authorized_keys.te", "usr/share/doc/inborn-guest/inborn_authorized_keys.te"),
            source("contrib/debian/inborn-guest.README.Debian", "usr/share/doc/inborn-guest/README.Debian"),
            source("contrib/debian/copyright", "usr/share/doc/inborn-guest/copyright"),
        ],
    },
];

impl Package {
    pub(crate) fn has_binary(&self) -> bool {
        self.files.iter().any(|file| matches!(file.content, Content::Binary))
    }

    /// Files that an operator changes and an upgrade leaves alone. Source: Debian policy 10.7, everything below `/etc`.
    pub(crate) fn conffiles(&self) -> impl Iterator<Item = &File> {
        self.files.iter().filter(|file| file.to.starts_with("etc/"))
    }

    /// The package's `control` file.
    pub(crate) fn control(&self, version: &str, architecture: &str, needs: &str, kibibytes: u64) -> String {
        let description: String = self.description.lines().map(|line| format!(" {line}\n")).collect();
        format!(
            "Package: {}\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: Inborn maintainers \
             <inborn@localhost>\nInstalled-Size: {kibibytes}\nDepends: {needs}, {}\n{}Section: admin\nPriority: \
             optional\nDescription: {}\n{description}",
            self.name, self.depends, self.fields, self.summary
        )
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Content, PACKAGES};

    /// Names in a directory of the source tree that end so.
    fn names(directory: &str, ending: &str) -> Vec<String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let entries = std::fs::read_dir(root.join(directory)).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with(ending)).collect()
    }

    fn is_packaged(path: &str) -> bool {
        let is_it = |content: &Content| matches!(content, Content::Source(from) if *from == path);
        PACKAGES.iter().flat_map(|package| package.files).any(|file| is_it(&file.content))
    }

    #[test]
    fn every_document_and_every_unit_is_packaged() {
        let endings = [".service", ".socket", ".path", ".timer"];
        let units = endings.iter().flat_map(|ending| names("contrib/systemd", ending));
        let units: Vec<String> = units.map(|name| format!("contrib/systemd/{name}")).collect();
        let documents: Vec<String> = names("docs", ".md").iter().map(|name| format!("docs/{name}")).collect();
        assert!(units.len() >= 10 && documents.len() >= 10, "{units:?} {documents:?}");
        for path in units.iter().chain(&documents) {
            assert!(is_packaged(path), "{path} is in no package");
        }
        assert!(!is_packaged("docs/none.md"));
    }

    #[test]
    fn fields_are_in_the_form_of_debian() {
        for package in PACKAGES {
            let text = package.control("1-1", "all", "libc6", 7);
            assert!(text.lines().all(|line| line.starts_with(' ') || line.contains(": ")), "{text}");
            assert!(text.lines().all(|line| line.len() <= 160) && text.ends_with('\n'), "{text}");
        }
    }

    #[test]
    fn no_two_packages_have_the_same_file() {
        let mut all: Vec<&str> = PACKAGES.iter().flat_map(|package| package.files).map(|file| file.to).collect();
        all.sort_unstable();
        let count = all.len();
        all.dedup();
        assert_eq!(all.len(), count);
    }
}
