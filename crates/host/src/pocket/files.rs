//! What a command in a pocket finds in its files and its environment. Pure, but for the machine's own files that the
//! pocket's are made from.

use std::path::Path;

use super::message::{File, Go};
use super::{Plan, PocketError, RESOLVER_ADDRESS};

/// Where distributions keep the certificates they trust: Debian, Fedora (twice), openSUSE, Alpine.
const SYSTEM_BUNDLES: [&str; 5] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// Daemons of the machine that a C library asks for names before it reads its own configuration.
const NAME_SERVICE_SOCKETS: [&str; 3] =
    ["/run/nscd/socket", "/var/run/nscd/socket", "/run/systemd/resolve/io.systemd.Resolve"];

const NSSWITCH: &str = "/etc/nsswitch.conf";

/// The message that makes a pocket of `plan`, with its files in `directory`.
pub(super) fn prepare(plan: &Plan, directory: &Path, terminal: bool) -> Result<Go, PocketError> {
    let directory = directory.to_str().ok_or_else(|| PocketError::Path { path: directory.to_owned() })?;
    let hostname = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let nsswitch = std::fs::read_to_string(NSSWITCH).unwrap_or_default();
    let file = |name: &str, contents: String| File { name: name.into(), contents, over: vec![], essential: false };
    let over = |file: File, over: &[&str]| File { over: over.iter().map(ToString::to_string).collect(), ..file };
    let files = vec![
        over(file(CA_BUNDLE, plan.ca_bundle.clone()), &SYSTEM_BUNDLES),
        File { essential: true, ..over(file("resolv.conf", resolv_conf()), &["/etc/resolv.conf"]) },
        over(file("hosts", hosts(&hostname)), &["/etc/hosts"]),
        over(file("nsswitch.conf", nsswitch_conf(&nsswitch)), &[NSSWITCH]),
        file(AWS_CONFIG, aws_config(plan)?),
        file(AWS_CREDENTIALS, String::new()),
    ];
    let hidden = plan
        .hidden
        .iter()
        .map(|path| path.to_str().map(ToOwned::to_owned).ok_or_else(|| PocketError::Path { path: path.clone() }));
    Ok(Go {
        parent: std::process::id(),
        directory: directory.to_owned(),
        files,
        hidden_files: NAME_SERVICE_SOCKETS.iter().map(ToString::to_string).collect(),
        hidden_directories: hidden.collect::<Result<_, _>>()?,
        environment: environment(plan, directory),
        terminal,
    })
}

const CA_BUNDLE: &str = "ca-bundle.pem";
const AWS_CONFIG: &str = "aws-config";
const AWS_CREDENTIALS: &str = "aws-credentials";

fn environment(plan: &Plan, directory: &str) -> Vec<(String, String)> {
    let bundle = format!("{directory}/{CA_BUNDLE}");
    let mut variables: Vec<(String, String)> =
        ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"]
            .map(|name| (name.to_owned(), bundle.clone()))
            .into();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    set("AWS_REGION", plan.region.to_string());
    set("AWS_DEFAULT_REGION", plan.region.to_string());
    set("AWS_CONFIG_FILE", format!("{directory}/{AWS_CONFIG}"));
    set("AWS_SHARED_CREDENTIALS_FILE", format!("{directory}/{AWS_CREDENTIALS}"));
    // Without it version 1 of the Go SDK does not look at the configuration at all.
    set("AWS_SDK_LOAD_CONFIG", "1".to_owned());
    set("INSTANCE_ID", plan.instance.to_string());
    variables
}

fn resolv_conf() -> String {
    format!("nameserver {RESOLVER_ADDRESS}\noptions timeout:2 attempts:2\n")
}

/// The loopback names, and the machine's own name, so that tools which ask for it do not stumble.
fn hosts(hostname: &str) -> String {
    let clean = hostname.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    let own = if clean && !hostname.is_empty() && hostname != "localhost" {
        format!("127.0.1.1 {hostname}\n")
    } else {
        String::new()
    };
    format!("127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{own}")
}

/// The machine's switch, with host names taken from `hosts` and the resolver and from nowhere else.
fn nsswitch_conf(system: &str) -> String {
    let is_hosts =
        |line: &&str| line.trim_start().strip_prefix("hosts").is_some_and(|l| l.trim_start().starts_with(':'));
    let kept: String = system.lines().filter(|line| !is_hosts(line)).map(|line| format!("{line}\n")).collect();
    format!("{kept}hosts: files dns\n")
}

/// The configuration that every SDK reads. The path is quoted for those that split it and those that give it to a shell.
fn aws_config(plan: &Plan) -> Result<String, PocketError> {
    let path = plan
        .executable
        .to_str()
        .filter(|path| path.starts_with('/') && !path.contains(['"', '\'', '\\', '$', '`', '%', '#', ';', '!']))
        .filter(|path| !path.chars().any(char::is_control))
        .ok_or_else(|| PocketError::Path { path: plan.executable.clone() })?;
    let quote = if path.contains(|c: char| !(c.is_ascii_alphanumeric() || "/-_.+@:,".contains(c))) { "\"" } else { "" };
    Ok(format!("[default]\nregion = {}\ncredential_process = {quote}{path}{quote} credentials\n", plan.region))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(executable: &str) -> Plan {
        Plan {
            instance: "i-0123456789abcdef0".parse().unwrap(),
            region: "eu-west-1".parse().unwrap(),
            ca_bundle: "CERTIFICATES".into(),
            executable: executable.into(),
            hidden: vec!["/data".into()],
        }
    }

    #[test]
    fn the_whole_message() {
        let go = prepare(&plan("/usr/bin/inborn"), Path::new("/tmp/p"), true).unwrap();
        assert_eq!(go.parent, std::process::id());
        assert_eq!((go.directory.as_str(), go.terminal), ("/tmp/p", true));
        assert_eq!(go.hidden_directories, ["/data"]);
        let names: Vec<_> = go.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!(names, ["ca-bundle.pem", "resolv.conf", "hosts", "nsswitch.conf", "aws-config", "aws-credentials"]);
        assert_eq!(go.files[0].contents, "CERTIFICATES");
        assert_eq!(go.files[1].contents, "nameserver 169.254.169.253\noptions timeout:2 attempts:2\n");
        assert!(go.files[1].essential && go.files.iter().filter(|file| file.essential).count() == 1);
        assert_eq!(go.files[5].contents, "");
        let value = |name: &str| {
            let values: Vec<_> = go.environment.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
            assert_eq!(values.len(), 1, "{name}");
            values[0]
        };
        for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE", "NODE_EXTRA_CA_CERTS", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"] {
            assert_eq!(value(name), "/tmp/p/ca-bundle.pem");
        }
        assert_eq!((value("AWS_REGION"), value("AWS_DEFAULT_REGION")), ("eu-west-1", "eu-west-1"));
        assert_eq!(value("AWS_CONFIG_FILE"), "/tmp/p/aws-config");
        assert_eq!(value("AWS_SHARED_CREDENTIALS_FILE"), "/tmp/p/aws-credentials");
        assert_eq!(value("INSTANCE_ID"), "i-0123456789abcdef0");
    }

    #[test]
    fn the_configuration_quotes_what_needs_it_and_refuses_what_it_cannot_say() {
        let process = |path: &str| aws_config(&plan(path)).map(|text| text.lines().nth(2).unwrap().to_owned());
        assert_eq!(process("/usr/bin/inborn").unwrap(), "credential_process = /usr/bin/inborn credentials");
        assert_eq!(process("/my bin/inborn").unwrap(), "credential_process = \"/my bin/inborn\" credentials");
        for path in ["inborn", "/a\"b", "/a'b", "/a$b", "/a`b", "/a\\b", "/a\nb", "/a%b"] {
            let error = process(path).unwrap_err();
            assert!(error.to_string().contains("install the program elsewhere"), "{error}");
        }
    }

    #[test]
    fn host_names_come_from_the_pocket_alone() {
        let system = "passwd: files systemd\n hosts : resolve [!UNAVAIL=return] dns\n# hosts: old\nhosts: x\n";
        assert_eq!(nsswitch_conf(system), "passwd: files systemd\n# hosts: old\nhosts: files dns\n");
        assert_eq!(nsswitch_conf(""), "hosts: files dns\n");
    }

    #[test]
    fn the_machine_knows_its_own_name() {
        let loopback = "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n";
        assert_eq!(hosts("web-1.lan"), format!("{loopback}127.0.1.1 web-1.lan\n"));
        for odd in ["", "localhost", "two words", "a\nb"] {
            assert_eq!(hosts(odd), loopback, "{odd:?}");
        }
    }
}
