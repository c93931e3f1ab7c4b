//! `--proxy-protocol-from`: which balancers are believed about where their connections come from.

use std::net::IpAddr;

use ipnet::IpNet;

use super::Advertise;

/// The most of them: each connection is compared with all.
const NETWORKS_MAX: usize = 64;
/// The shortest prefixes. Who has an address in one of these networks can claim any source, and whole allocations are nobody's
/// balancers.
const PREFIX_MIN_V4: u8 = 8;
const PREFIX_MIN_V6: u8 = 32;

/// Reads the networks; what is wrong with them joins the list.
pub(super) fn networks(flags: &[String], file: Option<Vec<String>>, mistakes: &mut Vec<String>) -> Vec<IpNet> {
    let named = if flags.is_empty() { file.unwrap_or_default() } else { flags.to_vec() };
    // An empty variable, or flag, takes away what the file has.
    let named: Vec<String> = named.into_iter().filter(|text| !text.is_empty()).collect();
    if named.len() > NETWORKS_MAX {
        mistakes.push(format!("proxy protocol from: {} are named, and {NETWORKS_MAX} is the most", named.len()));
    }
    let read = named.iter().filter_map(|text| {
        network(text).map_err(|mistake| mistakes.push(format!("proxy protocol from `{text}`: {mistake}"))).ok()
    });
    read.collect()
}

/// An address, or a network that is written as one.
fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let network = network.map_err(|_| "not an address or a network, as in 10.0.0.8 or 10.0.0.0/28".to_owned())?;
    if network.addr().to_canonical().is_ipv4() && network.addr().is_ipv6() {
        return Err(format!("an address of IPv4: write {}", network.addr().to_canonical()));
    }
    if network.trunc() != network {
        return Err(format!("an address beside its network: write {} or {}", network.addr(), network.trunc()));
    }
    let prefix_min = match network {
        IpNet::V4(_) => PREFIX_MIN_V4,
        IpNet::V6(_) => PREFIX_MIN_V6,
    };
    if network.prefix_len() < prefix_min {
        return Err(format!(
            "whoever has an address in it could claim any source, so that it has to be /{prefix_min} or smaller: name the addresses of \
             the balancers"
        ));
    }
    Ok(network)
}

/// What is wrong with a server that asks the others from an address of which they take a header for sure.
pub(super) fn check_advertised(networks: &[IpNet], advertise: Option<&Advertise>) -> Option<String> {
    let address = advertise?.ip()?;
    let network = networks.iter().find(|network| network.contains(&address.to_canonical()))?;
    Some(format!(
        "proxy protocol from `{network}`: {address} of --advertise is in it, and region servers that pass calls on send no header: \
         name the balancers alone, and give them addresses of their own"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::{serve, up};
    use crate::settings::{FileSettings, Settings};

    fn read(flags: &[&str], file: &str) -> Result<Vec<String>, String> {
        let arguments: Vec<_> = flags.iter().flat_map(|flag| ["--proxy-protocol-from", flag]).collect();
        let settings = Settings::merge(&up(&arguments), toml::from_str(file).unwrap());
        settings
            .map(|settings| settings.balancers.iter().map(IpNet::to_string).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn balancers_are_named_by_flags_or_by_the_file() {
        let file = r#"proxy_protocol_from = ["10.0.0.8", "fd00::/64"]"#;
        assert_eq!(read(&[], "").unwrap(), <[&str; 0]>::default());
        assert_eq!(read(&[], file).unwrap(), ["10.0.0.8/32", "fd00::/64"]);
        assert_eq!(read(&["192.0.2.0/24,192.0.2.1"], file).unwrap(), ["192.0.2.0/24", "192.0.2.1/32"]);
        assert_eq!(read(&["192.0.2.0/24", "::1"], file).unwrap(), ["192.0.2.0/24", "::1/128"]);
        assert_eq!(read(&[""], file).unwrap(), <[&str; 0]>::default());
    }

    #[test]
    fn prefixes_below_at_and_above_the_shortest() {
        for (text, is_good) in [
            ("0.0.0.0/0", false),
            ("10.0.0.0/7", false),
            ("10.0.0.0/8", true),
            ("10.0.0.0/9", true),
            ("10.0.0.1/32", true),
            ("::/0", false),
            ("2001:db8::/31", false),
            ("2001:db8::/32", true),
            ("2001:db8::/33", true),
            ("2001:db8::1/128", true),
        ] {
            // 10.0.0.0/7 and 2001:db8::/31 are networks as they stand.
            let found = read(&[text], "");
            assert_eq!(found.is_ok(), is_good, "{text}: {found:?}");
        }
        let mistake = read(&["0.0.0.0/0"], "").unwrap_err();
        assert!(mistake.contains("`0.0.0.0/0`: whoever has an address in it could claim any source"), "{mistake}");
    }

    #[test]
    fn numbers_of_networks_below_at_and_above_the_most() {
        for (count, is_good) in [(NETWORKS_MAX - 1, true), (NETWORKS_MAX, true), (NETWORKS_MAX + 1, false)] {
            let all: Vec<String> = (0..count).map(|number| format!("10.0.0.{number}")).collect();
            assert_eq!(read(&[&all.join(",")], "").is_ok(), is_good, "{count}");
        }
    }

    #[test]
    fn what_is_no_network_is_told_with_what_to_write() {
        for (text, told) in [
            ("balancer.lab", "not an address or a network"),
            ("10.0.0.0/33", "not an address or a network"),
            ("10.0.0.8/24", "write 10.0.0.8 or 10.0.0.0/24"),
            ("::ffff:10.0.0.8", "write 10.0.0.8"),
            ("::ffff:10.0.0.0/120", "write 10.0.0.0"),
        ] {
            let mistake = read(&["127.0.0.1", text], "").unwrap_err();
            assert!(
                mistake.starts_with(&format!("proxy protocol from `{text}`: ")) && mistake.contains(told),
                "{mistake}"
            );
        }
        assert_eq!(read(&["a,b"], "").unwrap_err().lines().count(), 2, "all at once");
    }

    #[test]
    fn a_server_is_no_balancer() {
        let gather = |advertise: &str, from: &str| {
            let arguments = ["--store", "sqlite:/x", "--advertise", advertise, "--proxy-protocol-from", from];
            Settings::merge_region(&serve(&arguments), FileSettings::default()).map_err(|error| error.to_string())
        };
        for (advertise, from) in [
            ("10.0.0.7", "10.0.0.0/24"),
            ("https://10.0.0.7:4543", "10.0.0.7"),
            ("fd00::7", "fd00::/64"),
            ("http://[fd00::7]:4580", "fd00::7"),
            ("::ffff:10.0.0.7", "10.0.0.7"),
        ] {
            let mistake = gather(advertise, from).unwrap_err();
            assert!(mistake.contains("of --advertise is in it"), "{mistake}");
        }
        for (advertise, from) in [("10.0.0.7", "10.0.0.8"), ("a.region.lab", "10.0.0.0/24"), ("fd00::7", "10.0.0.7")] {
            assert_eq!(gather(advertise, from).unwrap().balancers.len(), 1, "{advertise} {from}");
        }
    }
}
