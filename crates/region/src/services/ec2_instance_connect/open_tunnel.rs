//! `OpenTunnel`: a TCP connection to a machine of the account, carried by a WebSocket.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use inborn_store::Instance;
use inborn_wire::error::Problem;
use inborn_wire::query::Structure;

use crate::gateway::Handshake;
use crate::network::FOREIGN_SUBNET_BITS;
use crate::operation::{Call, Outcome};
use crate::tunnels::Tunnel;

/// Where tunnels may lead: SSH and RDP. Source: the refusal that AWS answers to others (aidansteele/rdsconn#5).
const PORTS: [u16; 2] = [22, 3389];
/// How long a tunnel may last, in seconds; so long it lasts if nothing else is said. Source: EC2 user guide.
const DURATION_SECONDS_MAX: u32 = 3600;
/// How long a link is good that opens a tunnel, in seconds. Source: what the AWS CLI says.
const LINK_SECONDS_MAX: u32 = 60;

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let endpoint = required(&root, "instanceConnectEndpointId")?;
        let port = port(&root)?;
        let address = address(&root)?;
        let duration = number(&root, "maxTunnelDuration", DURATION_SECONDS_MAX)?.unwrap_or(DURATION_SECONDS_MAX);
        number(&root, "X-Amz-Expires", LINK_SECONDS_MAX)?;
        if let Some(name) = call.parameters.unread().next() {
            return Err(invalid(format!("The parameter {name} is not recognized.")));
        }
        let handshake = call.handshake.cloned().ok_or_else(Handshake::missing)?;
        let machine = machine(&call, address)?;
        if call.region.quarantines().of(&*machine).is_some() {
            return Err(invalid("The instance is in quarantine: an operator has to release it first."));
        }
        if let Some(host) = machine.host {
            return Err(invalid(format!(
                "The instance is on host {host}, where no tunnel leads. Log in by `inborn shell` (or aws ssm start-session), or over your \
                 own network."
            )));
        }
        // There is one VPC: each endpoint leads to all its subnets.
        known_endpoint(&call, endpoint)?;
        let place = call.region.tunnels().place(machine.id).ok_or_else(|| {
            let message = "Too many tunnels are open. Close one and retry your request.";
            Problem::Service { status: 429, code: "TooManyConnections", message: message.to_owned() }
        })?;
        let answer = handshake.answer(call.request_id);
        let tunnel = Tunnel { machine, port, duration: Duration::from_secs(duration.into()), place };
        tokio::spawn(tunnel.run(Arc::clone(call.region), handshake));
        Ok(answer.into())
    })
}

fn port(root: &Structure<'_>) -> Result<u16, Problem> {
    let wrong = || {
        invalid(
            "The specified RemotePort is not valid. Specify either 22 or 3389 as the RemotePort and retry your request.",
        )
    };
    let port = required(root, "remotePort")?.parse().map_err(|_| wrong())?;
    if PORTS.contains(&port) { Ok(port) } else { Err(wrong()) }
}

fn address(root: &Structure<'_>) -> Result<Ipv4Addr, Problem> {
    let wrong =
        || invalid("The specified PrivateIpAddress is not valid. Specify a private IPv4 address of an instance.");
    required(root, "privateIpAddress")?.parse().map_err(|_| wrong())
}

/// The machine of the account that runs and has this address. There is nothing else that a tunnel leads to.
fn machine(call: &Call<'_>, address: Ipv4Addr) -> Result<Arc<Instance>, Problem> {
    let mut found = call.region.machines().running_at(call.caller.principal.account(), address.into());
    match (found.pop(), found.is_empty()) {
        (Some(machine), true) => Ok(Arc::new(machine.unpack())),
        (Some(_), false) => Err(invalid("More than one running instance has the specified PrivateIpAddress.")),
        (None, _) => Err(invalid("No running instance has the specified PrivateIpAddress.")),
    }
}

fn known_endpoint(call: &Call<'_>, id: &str) -> Result<(), Problem> {
    let addresses = call.region.machines().blocks(call.caller.principal.account(), FOREIGN_SUBNET_BITS);
    let all = call.region.identity().connect_endpoints(call.account(), addresses.into_iter());
    let is_known = all.iter().any(|(_, endpoint)| endpoint.id == id);
    if is_known { Ok(()) } else { Err(invalid("The specified InstanceConnectEndpointId does not exist.")) }
}

fn required<'a>(root: &Structure<'a>, name: &str) -> Result<&'a str, Problem> {
    root.get(name).ok_or_else(|| invalid(format!("The request must contain the parameter {name}.")))
}

fn number(root: &Structure<'_>, name: &str, most: u32) -> Result<Option<u32>, Problem> {
    let Some(text) = root.get(name) else { return Ok(None) };
    let number = text.parse().ok().filter(|number| (1..=most).contains(number));
    number
        .map(Some)
        .ok_or_else(|| invalid(format!("The specified {name} is not valid. Specify a number from 1 to {most}.")))
}

fn invalid(message: impl Into<String>) -> Problem {
    Problem::Service { status: 400, code: "InvalidParameter", message: message.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_wire::query::Parameters;

    fn read<T>(query: &str, what: impl Fn(&Structure<'_>) -> Result<T, Problem>) -> Result<T, String> {
        let parameters = Parameters::parse(query.as_bytes(), b"").unwrap();
        what(&parameters.root()).map_err(|problem| match problem {
            Problem::Service { status: 400, code: "InvalidParameter", message } => message,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn ports_other_than_ssh_and_rdp_are_refused() {
        for port in ["22", "3389"] {
            assert!(read(&format!("remotePort={port}"), super::port).is_ok(), "{port}");
        }
        for port in ["", "0", "21", "23", "80", "443", "3388", "3390", "65558", "022x", "-22", "22 "] {
            let said = read(&format!("remotePort={port}"), super::port).unwrap_err();
            assert!(
                said.starts_with("The specified RemotePort is not valid. Specify either 22 or 3389"),
                "{port}: {said}"
            );
        }
    }

    #[test]
    fn seconds_below_at_and_above_their_limits() {
        let of = |name: &'static str, most: u32| {
            move |seconds: &str| read(&format!("{name}={seconds}"), |root| number(root, name, most))
        };
        let duration = of("maxTunnelDuration", DURATION_SECONDS_MAX);
        assert_eq!((duration("1"), duration("3599"), duration("3600")), (Ok(Some(1)), Ok(Some(3599)), Ok(Some(3600))));
        assert!(["0", "3601", "", "x", "-1"].into_iter().all(|seconds| duration(seconds).is_err()));
        let link = of("X-Amz-Expires", LINK_SECONDS_MAX);
        assert_eq!((link("59"), link("60")), (Ok(Some(59)), Ok(Some(60))));
        assert!(link("61").is_err());
    }

    #[test]
    fn addresses_are_ipv4() {
        assert_eq!(read("privateIpAddress=10.1.2.3", address), Ok(Ipv4Addr::new(10, 1, 2, 3)));
        for text in ["", "fd00::1", "10.1.2", "10.1.2.3.", "localhost", "010.1.2.3", "10.1.2.3:22"] {
            assert!(read(&format!("privateIpAddress={text}"), address).is_err(), "{text}");
        }
    }
}
