//! What was done, in the forms that GuardDuty has for it.

use super::cut;
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// `action` of a finding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A call of an API.
    AwsApiCall(AwsApiCall),
    /// A question to DNS.
    DnsRequest(DnsRequest),
    /// A connection.
    NetworkConnection(NetworkConnection),
}

/// `awsApiCallAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsApiCall {
    /// The operation, as in `GetCallerIdentity`.
    pub api: String,
    /// The service, as in `sts.amazonaws.com`.
    pub service: String,
    /// What the client calls itself.
    pub user_agent: Option<String>,
    /// Where it came from.
    pub remote: IpDetails,
    /// The refusal that it met, if it met one.
    pub error_code: Option<String>,
}

/// `dnsRequestAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsRequest {
    /// The name that was asked for.
    pub domain: String,
    /// `UDP` or `TCP`.
    pub protocol: Option<String>,
}

/// `networkConnectionAction`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkConnection {
    /// `OUTBOUND`, `INBOUND` or `UNKNOWN`.
    pub direction: &'static str,
    /// `TCP` or `UDP`.
    pub protocol: Option<String>,
    /// The machine's side.
    pub local: (Option<IpDetails>, Option<PortDetails>),
    /// The other side.
    pub remote: (Option<IpDetails>, Option<PortDetails>),
}

/// An address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpDetails(pub IpAddr);

/// A port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortDetails(pub u16);

impl IpDetails {
    fn document(self) -> Value {
        match self.0 {
            IpAddr::V4(address) => json!({ "ipAddressV4": address.to_string() }),
            IpAddr::V6(address) => json!({ "ipAddressV6": address.to_string() }),
        }
    }
}

impl Action {
    pub(super) fn document(&self) -> Value {
        match self {
            Self::AwsApiCall(call) => {
                let mut members = Map::new();
                members.insert("api".to_owned(), Value::from(cut(&call.api)));
                members.insert("callerType".to_owned(), Value::from("Remote IP"));
                members.insert("serviceName".to_owned(), Value::from(cut(&call.service)));
                members.insert("remoteIpDetails".to_owned(), call.remote.document());
                put(&mut members, "userAgent", call.user_agent.as_deref());
                put(&mut members, "errorCode", call.error_code.as_deref());
                json!({ "actionType": "AWS_API_CALL", "awsApiCallAction": members })
            }
            Self::DnsRequest(request) => {
                let mut members = Map::new();
                members.insert("domain".to_owned(), Value::from(cut(&request.domain)));
                members.insert("blocked".to_owned(), Value::from(false));
                put(&mut members, "protocol", request.protocol.as_deref());
                json!({ "actionType": "DNS_REQUEST", "dnsRequestAction": members })
            }
            Self::NetworkConnection(connection) => {
                let mut members = Map::new();
                members.insert("blocked".to_owned(), Value::from(false));
                members.insert("connectionDirection".to_owned(), Value::from(connection.direction));
                put(&mut members, "protocol", connection.protocol.as_deref());
                let sides = [
                    ("localIpDetails", "localPortDetails", connection.local),
                    ("remoteIpDetails", "remotePortDetails", connection.remote),
                ];
                for (address_name, port_name, (address, port)) in sides {
                    if let Some(address) = address {
                        members.insert(address_name.to_owned(), address.document());
                    }
                    if let Some(PortDetails(port)) = port {
                        members.insert(port_name.to_owned(), json!({ "port": port, "portName": "Unknown" }));
                    }
                }
                json!({ "actionType": "NETWORK_CONNECTION", "networkConnectionAction": members })
            }
        }
    }
}

fn put(members: &mut Map<String, Value>, name: &str, value: Option<&str>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), Value::from(cut(value)));
    }
}
